/**
 * Dispatches over a flat range.
 *
 * @module
 */
import { folded } from "../kernel.ts";

/** Defines `i`, the flat index of a thread in workgroups of 64. */
export const INDEX_1D = `let i = (wid.y * nwg.x + wid.x) * 64u + li;`;

/** The number of workgroups of 64 threads that cover `count` indices. */
export const groups1d = (count: number) => folded(Math.ceil(count / 64));
