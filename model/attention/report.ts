/**
 * What self-attention did while a clip was rendered.
 *
 * @module
 */

/** Told when a clip's denoising is done. */
export interface AttentionReport {
  /**
   * Pairs of queries and keys that were multiplied, of those of full attention, over all steps, layers and heads. Exact
   * but for Veda over grids with partial tiles: which tiles are kept only the GPU knows, and they count as of mean
   * size.
   */
  readonly density: number;
  /** In a clause, why nothing was left out where the method was meant to: a density of 1. */
  readonly whyFull?: string;
  /**
   * For routed attention: the branch that each head took, an index into `BRANCHES` of model/vorta/branch.ts, as
   * [steps][layers][heads].
   */
  readonly routes?: readonly (readonly Uint8Array[])[];
}
