/**
 * The grid of tokens that a latent video is cut into.
 *
 * @module
 */

/** The number of tokens along frames, rows and columns. */
export type Grid = readonly [frames: number, rows: number, columns: number];

/**
 * @param shape [batch, channels, frames, height, width] of the latents
 * @param patch the latent frames, rows and columns of one token
 */
export function gridOf(shape: readonly number[], patch: readonly [number, number, number]): Grid {
  const grid = patch.map((p, axis) => shape[axis + 2]! / p);
  if (!grid.every(Number.isInteger)) throw new RangeError(`latents [${shape}] cannot be cut into patches of ${patch}`);
  return grid as unknown as Grid;
}
