/**
 * Launches over a flat range. WebGPU allows 65535 workgroups an axis; longer ranges fold onto y.
 *
 * @module
 */

/** Defines `i`, the flat index of a thread in workgroups of 64. */
export const INDEX_1D = `let i = (wid.y * nwg.x + wid.x) * 64u + li;`;

/** Workgroups of 64 threads that cover `count` indices. */
export function groups1d(count: number): readonly [number, number, number] {
  const groups = Math.ceil(count / 64);
  return [Math.min(groups, 65535), Math.ceil(groups / 65535), 1];
}
