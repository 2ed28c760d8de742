/**
 * The shared part of matrix products and convolutions on GPUs. The kernels loop over the inner axis. In each step, a
 * workgroup stages a tile of either operand in its memory and multiplies the two. `tiled.ts` does so by ordinary
 * arithmetic and `matrix.ts` by matrix units; an {@link OperandLoader} reads the operands from where they are stored.
 *
 * @module
 */

/**
 * Reads the operands, in WGSL. A thread stages elements of several rows of each operand, all at the same position in
 * the operand's tile. In scope are `m0` and `n0`, the first row of x and of w that the workgroup needs, and `x_at` and
 * `w_at`, the thread's position in the tiles along the inner axis, counted in elements.
 */
export interface OperandLoader {
  /** Statements before the first step, given the rows that a thread stages, counted from the first of the tile. */
  begin(xRows: readonly string[], wRows: readonly string[]): string;
  /** The number of steps. */
  readonly steps: string;
  /**
   * Statements that advance to the next step, given how many rows of x a thread stages. They also run after the last
   * step, where reads must be harmless.
   */
  next(xRows: number): string;
  /** The element of x for the i-th row that a thread stages. */
  x(i: number): string;
  /** Whether that element exists. Where it does not, zeros are multiplied. */
  inside(i: number): string;
  /** The same for w, which may be any number where x does not exist. */
  w(i: number): string;
}

/** What loaders of operands that are stored in rows need to know. */
export interface RowsLoaderOptions {
  /** The number of elements that are staged at once. */
  readonly depth: number;
  /** WGSL: the number of elements of a row: of a pixel, in convolutions. */
  readonly length: string;
  /** WGSL: reads an element of x by its index. */
  x(index: string): string;
  w(index: string): string;
}

/** A product to compute: a loader, and the use of its sums. */
export interface Product {
  readonly loader: OperandLoader;
  /** The WGSL types of an element of x and of w in memory. */
  readonly elements: readonly [x: string, w: string];
  /**
   * WGSL that consumes four neighbouring sums of a row. `m`, `n` (a multiple of 4) and `sums` (a vec4f) are
   * expressions.
   */
  store(m: string, n: string, sums: string): string;
}

/**
 * The order in which workgroups take the tiles of the output. Those that run at the same time should share rows of x and
 * of w, which then come from the cache. So tiles are processed in bands of 8 along m. This declares `wid_m` and `wid_n`,
 * computed from the position in a grid of [tiles along n, tiles along m].
 */
export const TILE_ORDER = `  let id = wid.y * nwg.x + wid.x;
  let band = id / (8u * nwg.x);
  let in_band = id % (8u * nwg.x);
  let band_height = min(8u, nwg.y - 8u * band);
  let wid_m = 8u * band + in_band % band_height;
  let wid_n = in_band / band_height;`;
