import type { Gpu } from "../../gpu/gpu.ts";
import type { HeadShape, TokenLayout } from "../attention/layout.ts";
import type { TiledGrid } from "../attention/tiles.ts";
import { TileAttention } from "./tile_attention.ts";
import { tileKind, type TileRule } from "./tile_kind.ts";
import type { TileShape } from "./tile_shapes.ts";

/** Attention over selected tiles of heads of one kind. */
export class TilePattern extends TileAttention {
  readonly tiled: TiledGrid;
  /** The number of key tiles of each query tile. */
  readonly keep: readonly number[];
  /** The pairs of queries and keys that one head multiplies, kept tokens included. */
  readonly pairs: number;

  /** For the parameters see `tileKind`. */
  constructor(
    gpu: Gpu,
    config: Omit<HeadShape, "layers">,
    tokens: TokenLayout,
    shape: TileShape,
    choice: number | ((tiled: TiledGrid) => TileRule),
  ) {
    const kind = tileKind(tokens, shape, choice);
    super(gpu, config, tokens, [kind]);
    this.tiled = kind.tiled;
    this.keep = kind.keep;
    this.pairs = kind.pairs;
  }
}
