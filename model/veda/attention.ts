/**
 * Veda's self-attention of all layers over one grid. Each head has its own shape of tile.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { type SomeHeads, uploadHeadLists } from "../attention/head_lists.ts";
import type { HeadShape } from "../attention/layout.ts";
import { type Grid, product } from "../attention/grid.ts";
import { TilePattern } from "./tile_pattern.ts";
import type { TilePlan } from "./tile_plan.ts";
import type { Projections } from "./scorer.ts";

/** The settings of {@link VedaAttention}. */
export interface VedaAttentionOptions {
  readonly plan: TilePlan;
  /** ρ, the share of tiles to keep. */
  readonly keep: number;
  /** By layer; owned by the caller. Without them, tiles are scored by their means. */
  readonly projections?: readonly Projections<Tensor>[];
  /** The layers that use full attention. */
  readonly denseLayers?: ReadonlySet<number>;
}

/** The patterns of a grid. They are on the GPU until {@link release}. */
export class VedaAttention {
  readonly #tokens: number;
  /** The patterns by shape, for those shapes that a head has. */
  readonly #patterns: ReadonlyMap<number, TilePattern>;

  constructor(
    private readonly gpu: Gpu,
    private readonly config: Omit<HeadShape, "layers">,
    grid: Grid,
    private readonly options: VedaAttentionOptions,
  ) {
    const { plan: { shapes, choices }, keep } = options;
    this.#tokens = product(grid);
    const used = new Set(choices.flatMap((choice) => [...choice]));
    this.#patterns = new Map([...used].map((i) => [i, new TilePattern(gpu, config, grid, shapes[i]!, keep)]));
  }

  /** The pairs of queries and keys that one head multiplies, counted by `keptPairs`. */
  pairs(layer: number, head: number): number {
    if (this.options.denseLayers?.has(layer)) return this.#tokens ** 2;
    return this.#patterns.get(this.options.plan.choices[layer]![head]!)!.pairs;
  }

  /**
   * Computes some heads of each layer; heads with the same shape share a dispatch. Uploads belong to the enclosing
   * scope.
   *
   * @param heads the heads for each layer
   */
  some(heads: readonly (readonly number[])[]): SomeHeads {
    const { gpu, config, options: { plan, projections, denseLayers } } = this;
    const groups = heads.map((list, layer) => {
      if (denseLayers?.has(layer)) return [{ pattern: undefined, list }];
      return [...this.#patterns].map(([shape, pattern]) => ({
        pattern,
        list: list.filter((head) => plan.choices[layer]![head] === shape),
      }));
    });
    const lists = uploadHeadLists(gpu, groups.flatMap((group) => group.map(({ list }) => list)));
    let at = 0;
    const layers = groups.map((group) => group.map(({ pattern }) => ({ pattern, only: lists[at++] })));
    return (q, k, v, layer, into) => {
      for (const { pattern, only } of layers[layer]!) {
        if (!only) continue;
        gpu.scope(() => {
          if (!pattern) attention(gpu, q, k, v, { heads: config.heads, only, into });
          else {
            const runs = gpu.scope(() => pattern.select(pattern.scores(q, k, projections?.[layer], only), only));
            pattern.attend(q, k, v, runs, { only, into });
          }
        });
      }
    };
  }

  /** Frees the patterns. */
  release(): void {
    for (const pattern of this.#patterns.values()) pattern.release();
  }
}
