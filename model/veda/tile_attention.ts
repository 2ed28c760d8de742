import { blockRows } from "../../gpu/ops/attention_family.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { randomScores, tileScores } from "../../gpu/ops/tile_scores.ts";
import { restOfTiles } from "../../gpu/ops/rest_of_tiles.ts";
import { selectTiles } from "../../gpu/ops/tile_selection.ts";
import { tileVectors } from "../../gpu/ops/tile_vectors.ts";
import { type TileBudget, type TileLayout, uploadTileBudget, uploadTileLayout } from "../../gpu/tile_layout.ts";
import type { Operand } from "../../gpu/ops/packed_operand.ts";
import { isSamePlace, Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { product } from "../attention/grid.ts";
import { type HeadShape, type TokenLayout, validTokens, withKept } from "../attention/layout.ts";
import { attentionOutput } from "../attention/output.ts";
import type { LayerScores } from "./scorer.ts";
import type { TileKind } from "./tile_kind.ts";

/** Options of {@link TileAttention.attend}. */
interface SomeInto<Into extends Operand = Tensor> {
  readonly only?: Tensor | undefined;
  readonly into?: Into | undefined;
  /** As in `VedaOptions`; then `into` is in f32, and neither q nor v. */
  readonly rest?: boolean | undefined;
}

/**
 * Attention over selected tiles of one layout: pooling → scores → selection → attention, as in Veda. Heads of several
 * kinds are computed together; `only` then says of which each is (see `headOfKind`). The tables are on the GPU until this
 * is disposed of. Kept tokens and tiles with known frames are always selected, and kept tokens attend to all.
 */
export class TileAttention implements Disposable {
  readonly #owner: TensorOwner;
  readonly layout: TileLayout;
  readonly budget: TileBudget;

  /** @param kinds at least one; of several, those that `kindsTogether` puts together */
  constructor(
    private readonly gpu: Gpu,
    private readonly config: Omit<HeadShape, "layers">,
    private readonly tokens: TokenLayout,
    readonly kinds: readonly TileKind[],
  ) {
    const first = product(tokens.grid), count = validTokens(tokens) - first;
    const { result, tensors } = gpu.collect(() => ({
      layout: uploadTileLayout(
        gpu,
        kinds.map(({ tiled }) => ({ ...tiled, order: withKept(tiled.order, tokens) })),
      ),
      budget: uploadTileBudget(
        gpu,
        kinds.map(({ tiled: { tiles }, keep }) => ({ tiles, keep })),
        blockRows(gpu, config.headDim),
        count > 0 ? { first, count } : undefined,
      ),
    }));
    this.layout = result.layout;
    this.budget = result.budget;
    this.#owner = new TensorOwner(gpu);
    this.#owner.adopt(tensors);
  }

  /**
   * Predicts the scores of pairs of tiles.
   *
   * @param q [batch, tokens, heads · head dim], f32, after norm and RoPE; the same holds for k
   * @param only [n], u32: the heads to compute; the results of other heads are undefined. Default: all
   * @returns [batch · heads, tiles, tiles], f32
   */
  scores(q: Tensor, k: Tensor, { projections, terms: { count, second } }: LayerScores, only?: Tensor): Tensor {
    const { gpu, layout, config: { heads, headDim } } = this;
    return gpu.scope(() => {
      const vectors = tileVectors(gpu, { q, k }, { heads, layout, projections, second, only });
      const width = second ? 2 * headDim : headDim;
      return tileScores(gpu, vectors.q, vectors.k, {
        heads,
        headDim,
        width,
        rowsOf: count ? layout.tiles : undefined,
        only,
      });
    });
  }

  /** Scores that say nothing: random numbers, the same for the same seed. [batch · heads, tiles, tiles], f32 */
  randomScores(batch: number, seed: number): Tensor {
    const n = this.layout.tiles.dim(1);
    return randomScores(this.gpu, [batch * this.config.heads, n, n], seed);
  }

  /** Selects tiles by such scores; see `selectTiles`: [batch · heads, runs, 2], u32. */
  select(scores: Tensor, only?: Tensor): Tensor {
    return selectTiles(this.gpu, scores, this.layout, this.budget, {
      ...{ heads: this.config.heads, only },
      ownTile: this.kinds[0]!.ownTile,
      always: this.kinds[0]!.always,
    });
  }

  /**
   * Attention over the selected tiles.
   *
   * @param runs the result of {@link select}
   * @param into where to write the result, instead of to a new tensor
   */
  attend(q: Tensor, k: Tensor, v: Tensor, runs: Tensor, options?: SomeInto): Tensor;
  attend(q: Tensor, k: Tensor, v: Tensor, runs: Tensor, options: SomeInto<Operand>): Operand;
  attend(q: Tensor, k: Tensor, v: Tensor, runs: Tensor, { only, into, rest }: SomeInto<Operand> = {}): Operand {
    const { gpu, config: { heads }, layout, budget: { blocks } } = this, queries = { blocks, runs };
    const y = into ?? attentionOutput(gpu, q, this.tokens), plan = { order: layout.order, queries };
    if (!rest || !this.#leavesOut) return attention(gpu, q, k, v, { heads, plan, only, into: y });
    if (!(y instanceof Tensor) || isSamePlace(y, q)) throw new Error("the rest of tiles needs q, and an output in f32");
    gpu.scope(() => {
      const lse = gpu.tensor([q.dim(0), q.dim(1), heads]);
      attention(gpu, q, k, v, { heads, plan, only, into: y, lse });
      restOfTiles(gpu, { q, k, v, y, lse }, { heads, only, layout, queries, inTiles: product(this.tokens.grid) });
    });
    return y;
  }

  /** Whether a query tile of any kind does not attend to all others. */
  get #leavesOut(): boolean {
    return this.kinds.some(({ keep, tiled: { tiles } }) => keep.some((count) => count < tiles.length));
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
  }
}
