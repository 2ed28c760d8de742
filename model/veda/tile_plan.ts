/**
 * The shape of tile of each head.
 *
 * @module
 */
import type { TileShape } from "./tiling.ts";

/** A shape for every layer and head. */
export interface TilePlan {
  /** The shapes; all have the same number of tokens. */
  readonly shapes: readonly TileShape[];
  /** For each layer the shape of each head, as an index into `shapes`. */
  readonly choices: readonly Uint8Array[];
}

/** One shape for all. */
export function uniformPlan(shape: TileShape, { layers, heads }: { layers: number; heads: number }): TilePlan {
  return { shapes: [shape], choices: Array.from({ length: layers }, () => new Uint8Array(heads)) };
}
