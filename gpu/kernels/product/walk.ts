/**
 * What matrix products and convolutions have in common on GPUs: two operands are walked along their inner axis, block
 * by block; a workgroup stages a block of each in its memory and multiplies them. `tiled.ts` and `matrix.ts` are two
 * ways to do that; a {@link Walk} tells them where the operands lie.
 *
 * @module
 */

/**
 * Where the operands lie, in WGSL. A thread stages elements of several rows of each operand, all at the same place
 * along the block. In scope: `m0` and `n0`, where the workgroup's tile begins, `x_at` and `w_at`, the thread's place in
 * the block, counted in elements.
 */
export interface Walk {
  /** Statements before the first block, given the rows that a thread stages, counted from the tile's first. */
  begin(xRows: readonly string[], wRows: readonly string[]): string;
  /** How many blocks there are. */
  readonly blocks: string;
  /**
   * Statements that go on to the next block, given how many rows of x a thread stages; past the last block, too, where
   * reading must do no harm.
   */
  next(xRows: number): string;
  /** The element of x that a thread stages of its i-th row. */
  x(i: number): string;
  /** Whether that element exists: where it does not, zeros are multiplied. */
  inside(i: number): string;
  /** The same of w, which may be any number where x does not exist. */
  w(i: number): string;
}

/** A product to make: a walk and what is done with the sums. */
export interface Product {
  readonly walk: Walk;
  /** WGSL types of an element of x and of w as they lie in memory. */
  readonly elements: readonly [x: string, w: string];
  /**
   * WGSL that takes four neighbouring sums of a row: `m`, `n` (a multiple of 4) and `sums` (a vec4f) are expressions.
   */
  store(m: string, n: string, sums: string): string;
}

/**
 * Workgroups that run at the same time should share rows of x and of w, which then come from the cache: tiles are taken
 * in bands of 8 along m. Declares `wid_m` and `wid_n`, from the place in a grid of [tiles along n, tiles along m].
 */
export const TILE_ORDER = `  let id = wid.y * nwg.x + wid.x;
  let band = id / (8u * nwg.x);
  let in_band = id % (8u * nwg.x);
  let band_height = min(8u, nwg.y - 8u * band);
  let wid_m = 8u * band + in_band % band_height;
  let wid_n = in_band / band_height;`;
