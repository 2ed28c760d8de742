/**
 * A report of the self-attention of one clip.
 *
 * @module
 */

/** The report that is given when a clip's denoising is done. */
export interface AttentionReport {
  /**
   * The multiplied pairs of queries and keys, as a share of full attention's, over all steps, layers and heads. It is
   * exact except for Veda over grids with partial tiles: only the GPU knows which tiles are kept, so they count with
   * the mean size.
   */
  readonly density: number;
  /** A clause that says why nothing was left out, where a sparse method has a density of 1. */
  readonly whyFull?: string;
  /**
   * For routed attention: the branch that each head took, an index into `BRANCHES` of model/vorta/branch.ts, as
   * [steps][layers][heads].
   */
  readonly routes?: readonly (readonly Uint8Array[])[];
}
