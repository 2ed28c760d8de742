import { type Grid, product } from "./grid.ts";

/** Number and size of a transformer's heads. Tokens have heads · head dim channels. */
export interface HeadShape {
  readonly layers: number;
  readonly heads: number;
  readonly headDim: number;
  /** For each layer the prefix of its tensors' names, in order. Default: `blocks.N.` */
  readonly layerPrefixes?: readonly string[] | undefined;
  /**
   * Whether VORTA's core-set attention selects keys by their own similarity, as on HunyuanVideo. Default: keys are those
   * tokens whose queries are selected, as on Wan
   */
  readonly ownKeys?: boolean | undefined;
  /** Whether blocks attend to the text in an attention module of its own. Default: text stands beside the video */
  readonly crossAttention?: boolean | undefined;
  /** Whether its blocks compute gates from their tokens, for video sparse attention. Default: no */
  readonly gated?: boolean | undefined;
}

/** For each layer the prefix of its tensors' names: layers are streamed by them, and files of routers have them. */
export function prefixesOf({ layers, layerPrefixes }: Pick<HeadShape, "layers" | "layerPrefixes">): readonly string[] {
  return layerPrefixes ?? Array.from({ length: layers }, (_, layer) => `blocks.${layer}.`);
}

/** The tokens of self-attention: a clip's grid in raster order, then those that no sparse pattern may drop. */
export interface TokenLayout {
  readonly grid: Grid;
  /** The number of tokens that are always kept: text beside the video, image tokens. */
  readonly kept: number;
  /** The number of first frames that are given, such as a picture: no sparse pattern drops them. Default: 0 */
  readonly known?: number;
  /** The number of valid kept tokens. The rest is padding: no token attends to it, and its output is 0. Default: all. */
  readonly length?: number;
}

/** An order of the grid's tokens, followed by the valid kept tokens. */
export function withKept(order: Uint32Array, layout: TokenLayout): Uint32Array {
  const all = new Uint32Array(validTokens(layout));
  all.set(order);
  for (let slot = order.length; slot < all.length; slot++) all[slot] = slot;
  return all;
}

/** Whether some kept tokens are padding. */
export const hasPadding = ({ kept, length = kept }: TokenLayout): boolean => length < kept;

/** The number of tokens that take part in attention. */
export function validTokens({ grid, kept, length = kept }: TokenLayout): number {
  return product(grid) + length;
}
