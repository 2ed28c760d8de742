import { TilereelError } from "../../gpu/common/errors.ts";
import { blockRows } from "../../gpu/ops/attention_family.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { randomScores, tileScores } from "../../gpu/ops/tile_scores.ts";
import { MAX_TILES, selectTiles } from "../../gpu/ops/tile_selection.ts";
import { tileVectors } from "../../gpu/ops/tile_vectors.ts";
import { type TileBudget, type TileLayout, uploadTileBudget, uploadTileLayout } from "../../gpu/tile_layout.ts";
import type { Operand } from "../../gpu/ops/packed_operand.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { type Grid, partCounts, product } from "../attention/grid.ts";
import { type HeadShape, type TokenLayout, validTokens, withKept } from "../attention/layout.ts";
import { attentionOutput } from "../attention/output.ts";
import { budget, keptPairs } from "./budget.ts";
import type { LayerScores } from "./scorer.ts";
import { type TiledGrid, tileGrid, tilesOfFirst } from "../attention/tiles.ts";
import type { TileShape } from "./tile_shapes.ts";

/** What is selected for each query tile. */
export interface TileRule {
  /** The number of key tiles. */
  readonly keep: readonly number[];
  /** Whether its own tile is always among them. */
  readonly ownTile: boolean;
  /** The pairs of queries and keys that one head then multiplies. */
  readonly pairs: number;
}

/** Options of {@link TilePattern.attend}. */
interface SomeInto<Into extends Operand = Tensor> {
  readonly only?: Tensor | undefined;
  readonly into?: Into | undefined;
}

/** Veda's rule for the share ρ of tiles. */
function vedaRule(share: number, tiled: TiledGrid): TileRule {
  const keep = budget(share, tiled);
  return { keep, ownTile: true, pairs: keptPairs(keep, tiled) };
}

/** A rule with tiles that are always selected, beside those that it selects, or in place of the last ones. */
function withAlways(rule: TileRule, { tiles }: TiledGrid, always: number): TileRule {
  if (always === 0) return rule;
  const keep = rule.keep.map((count) => Math.min(tiles.length, count + always));
  const size = tiles.slice(0, always).reduce((sum, { count }) => sum + count, 0) / always;
  const more = tiles.reduce((sum, { count }, row) => sum + count * size * (keep[row]! - rule.keep[row]!), 0);
  return { ...rule, keep, pairs: rule.pairs + more };
}

/** @throws {TilereelError} if there are too many tiles */
export function checkTiles(grid: Grid, shape: TileShape): void {
  const tiles = product(partCounts(grid, shape));
  if (tiles <= MAX_TILES) return;
  throw new TilereelError(
    `tiles of ${shape.join("x")} cut ${grid.join("x")} tokens into ${tiles}, but at most ${MAX_TILES} are supported; ` +
      `use larger tiles`,
  );
}

/**
 * Attention over selected tiles of one layout, whose grid is cut into tiles of one shape: pooling → scores → selection →
 * attention, as in Veda. The tensors are on the GPU until this is disposed of. Kept tokens and tiles
 * with known frames are always selected, and kept tokens attend to all.
 */
export class TilePattern implements Disposable {
  readonly #owner: TensorOwner;
  readonly tiled: TiledGrid;
  /** The number of key tiles of each query tile. */
  readonly keep: readonly number[];
  readonly #ownTile: boolean;
  /** The number of first tiles that are always selected. */
  readonly #always: number;
  readonly layout: TileLayout;
  readonly budget: TileBudget;
  /** The pairs of queries and keys that one head multiplies, kept tokens included. */
  readonly pairs: number;

  /**
   * @param choice ρ, the share of tiles that Veda keeps, or the rule of another method
   * @throws {TilereelError} if there are too many tiles
   */
  constructor(
    private readonly gpu: Gpu,
    private readonly config: Omit<HeadShape, "layers">,
    private readonly tokens: TokenLayout,
    shape: TileShape,
    choice: number | ((tiled: TiledGrid) => TileRule),
  ) {
    checkTiles(tokens.grid, shape);
    this.tiled = tileGrid(tokens.grid, shape);
    const { order, tiles } = this.tiled, kept = validTokens(tokens) - order.length;
    const rule = typeof choice === "number" ? vedaRule(choice, this.tiled) : choice(this.tiled);
    this.#always = tilesOfFirst(this.tiled.counts, shape, tokens.known);
    const { keep, ownTile, pairs } = withAlways(rule, this.tiled, this.#always);
    this.keep = keep;
    this.#ownTile = ownTile;
    this.pairs = pairs + kept * (2 * order.length + kept);
    const { result, tensors } = gpu.collect(() => {
      const rows = blockRows(gpu, config.headDim), run = kept > 0 ? { first: order.length, count: kept } : undefined;
      return {
        layout: uploadTileLayout(gpu, withKept(order, tokens), tiles),
        budget: uploadTileBudget(gpu, tiles, this.keep, rows, run),
      };
    });
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
    const n = this.tiled.tiles.length;
    return randomScores(this.gpu, [batch * this.config.heads, n, n], seed);
  }

  /** Selects tiles by such scores; see `selectTiles`: [batch · heads, runs, 2], u32. */
  select(scores: Tensor, only?: Tensor): Tensor {
    return selectTiles(this.gpu, scores, this.layout, this.budget, {
      ...{ heads: this.config.heads, only },
      ownTile: this.#ownTile,
      always: this.#always,
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
  attend(q: Tensor, k: Tensor, v: Tensor, runs: Tensor, { only, into }: SomeInto<Operand> = {}): Operand {
    const { gpu, config: { heads }, layout: { order }, budget: { blocks } } = this;
    const y = into ?? attentionOutput(gpu, q, this.tokens);
    return attention(gpu, q, k, v, { heads, plan: { order, queries: { blocks, runs } }, only, into: y });
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
  }
}
