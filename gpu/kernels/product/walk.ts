/**
 * What matrix products and convolutions share on GPUs. Two operands are read along their inner axis, block by block. A
 * workgroup stages a block of each in its memory and multiplies them. `tiled.ts` and `matrix.ts` are two ways to do
 * that; a {@link Walk} tells them where the operands are stored.
 *
 * @module
 */

/**
 * The layout of the operands, in WGSL. A thread stages elements of several rows of each operand, all at the same
 * position in the block. In scope are `m0` and `n0`, the origin of the workgroup's tile, and `x_at` and `w_at`, the
 * thread's position in the block, counted in elements.
 */
export interface Walk {
  /** Statements before the first block, given the rows that a thread stages, counted from the tile's first row. */
  begin(xRows: readonly string[], wRows: readonly string[]): string;
  /** The number of blocks. */
  readonly blocks: string;
  /**
   * Statements that advance to the next block, given how many rows of x a thread stages. They also run past the last
   * block, where reads must be harmless.
   */
  next(xRows: number): string;
  /** The element of x for the i-th row that a thread stages. */
  x(i: number): string;
  /** Whether that element exists. Where it does not, zeros are multiplied. */
  inside(i: number): string;
  /** The same for w, which may be any number where x does not exist. */
  w(i: number): string;
}

/** A product to compute: a walk, and the use of its sums. */
export interface Product {
  readonly walk: Walk;
  /** The WGSL types of an element of x and of w in memory. */
  readonly elements: readonly [x: string, w: string];
  /**
   * WGSL that consumes four neighbouring sums of a row. `m`, `n` (a multiple of 4) and `sums` (a vec4f) are
   * expressions.
   */
  store(m: string, n: string, sums: string): string;
}

/**
 * Workgroups that run at the same time should share rows of x and of w, which then come from the cache. So tiles are
 * processed in bands of 8 along m. This declares `wid_m` and `wid_n`, computed from the position in a grid of [tiles
 * along n, tiles along m].
 */
export const TILE_ORDER = `  let id = wid.y * nwg.x + wid.x;
  let band = id / (8u * nwg.x);
  let in_band = id % (8u * nwg.x);
  let band_height = min(8u, nwg.y - 8u * band);
  let wid_m = 8u * band + in_band % band_height;
  let wid_n = in_band / band_height;`;
