import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { addGatedTiles } from "../../gpu/ops/tile_gate.ts";
import { tileScores } from "../../gpu/ops/tile_scores.ts";
import { tileMeans } from "../../gpu/ops/tile_vectors.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { Grid } from "../attention/grid.ts";
import type { HeadShape, TokenLayout } from "../attention/layout.ts";
import type { TiledGrid } from "../attention/tiles.ts";
import type { TileRule } from "../veda/tile_kind.ts";
import { TilePattern } from "../veda/tile_pattern.ts";

/** The shape of tiles that models with VSA are trained with. */
const VSA_TILE: Grid = [4, 4, 4];

/**
 * The rule of VSA: every tile keeps the same number, of any place. The pairs are exact where no tile is partial; else
 * tiles count with their mean size, because only the GPU knows which are kept.
 */
function vsaRule(sparsity: number, { tiles, tokens }: TiledGrid): TileRule {
  const n = tiles.length, keep = Math.max(1, Math.min(Math.ceil((1 - sparsity) * n), n));
  return { keep: tiles.map(() => keep), ownTile: false, pairs: tokens * tokens * keep / n };
}

/**
 * Video sparse attention (VSA, FastVideo's) over one layout: a coarse part that attends to the means of tiles, and a
 * sparse part that attends to the tokens of the tiles whose means score best. Gates of the model weigh the coarse part.
 * It is on the GPU until it is disposed of.
 */
export class VsaAttention implements Disposable {
  readonly #owner: TensorOwner;
  readonly pattern: TilePattern;
  /** [grid tokens], u32 */
  readonly #tileOf: Tensor;

  /**
   * @param sparsity the share of tiles that a tile does not attend to
   * @throws {TilereelError} if there are too many tiles
   */
  constructor(
    private readonly gpu: Gpu,
    private readonly shape: Pick<HeadShape, "heads" | "headDim">,
    layout: TokenLayout,
    sparsity: number,
  ) {
    this.#owner = new TensorOwner(gpu);
    this.pattern = new TilePattern(gpu, shape, layout, VSA_TILE, (tiled) => vsaRule(sparsity, tiled));
    const { order, tiles } = this.pattern.tiled, tileOf = new Uint32Array(order.length);
    for (const [tile, { first, count }] of tiles.entries()) {
      for (const token of order.subarray(first, first + count)) tileOf[token] = tile;
    }
    this.#tileOf = this.#owner.adopt(gpu.upload(tileOf, [tileOf.length], "u32"));
  }

  /**
   * The parts before the gate.
   *
   * @param q [batch, tokens, heads · head dim], f32, after norm and RoPE; the same holds for k and v
   * @param coarse whether to compute the coarse part
   * @returns `sparse`, of the shape of q; `runs`, the selected tiles as `TilePattern.select` returns them; `coarse`,
   * [batch · heads, tiles, head dim], f32: a row for all tokens of a tile
   */
  parts(q: Tensor, k: Tensor, v: Tensor, coarse: boolean) {
    const { gpu, pattern, shape: { heads, headDim } } = this, means = { heads, layout: pattern.layout };
    const [sparse, runs, rows] = gpu.scope(() => {
      const [meanQ, meanK] = [tileMeans(gpu, q, means), tileMeans(gpu, k, means)];
      const runs = pattern.select(tileScores(gpu, meanQ, meanK, { heads, headDim }));
      // Every head is a batch item of its own, whose tokens are the tiles.
      const rows = coarse ? [attention(gpu, meanQ, meanK, tileMeans(gpu, v, means), { heads: 1 })] : [];
      return [pattern.attend(q, k, v, runs), runs, ...rows];
    });
    return { sparse: sparse!, runs: runs!, coarse: rows };
  }

  /** sparse + gate · coarse. Without a gate, the coarse part is left out. */
  attend(q: Tensor, k: Tensor, v: Tensor, gate?: Tensor): Tensor {
    const { gpu } = this;
    return gpu.scope(() => {
      const { sparse, coarse } = this.parts(q, k, v, gate !== undefined);
      if (gate && coarse) addGatedTiles(gpu, sparse, coarse, gate, this.#tileOf);
      return sparse;
    });
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
    this.pattern[Symbol.dispose]();
  }
}
