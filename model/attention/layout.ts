/**
 * The sequence of tokens that self-attention runs over.
 *
 * @module
 */
import type { Grid } from "./grid.ts";

/** Number and size of a transformer's heads. Tokens have heads · head dim channels. */
export interface HeadShape {
  readonly layers: number;
  readonly heads: number;
  readonly headDim: number;
}

/** The tokens of a clip's grid in raster order, and behind them those that no sparse pattern may drop. */
export interface TokenLayout {
  readonly grid: Grid;
  /** The number of tokens that are always kept: text beside the video, image tokens. */
  readonly kept: number;
}
