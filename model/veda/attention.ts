/**
 * Veda's self-attention of all layers over one grid: each head over tiles of its own shape.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { type SomeHeads, uploadHeadLists } from "../attention/head_lists.ts";
import type { TransformerConfig } from "../wan/config.ts";
import type { Grid } from "../wan/grid.ts";
import { TilePattern } from "./tile_pattern.ts";
import type { TilePlan } from "./tile_plan.ts";
import type { Projections } from "./scorer.ts";
import { product } from "./tiling.ts";

/** What {@link VedaAttention} goes by. */
export interface VedaAttentionOptions {
  readonly plan: TilePlan;
  /** ρ, the share of tiles to keep. */
  readonly keep: number;
  /** By layer; stay the caller's. Without, tiles are scored by their means. */
  readonly projections?: readonly Projections<Tensor>[];
  /** Layers that take full attention. */
  readonly denseLayers?: ReadonlySet<number>;
}

/** The patterns of a grid, on the GPU until {@link release}. */
export class VedaAttention {
  readonly #tokens: number;
  /** By shape; those that no head has are absent. */
  readonly #patterns: ReadonlyMap<number, TilePattern>;

  constructor(
    private readonly gpu: Gpu,
    private readonly config: Pick<TransformerConfig, "heads" | "headDim">,
    grid: Grid,
    private readonly options: VedaAttentionOptions,
  ) {
    const { plan: { shapes, choices }, keep } = options;
    this.#tokens = product(grid);
    const used = new Set(choices.flatMap((choice) => [...choice]));
    this.#patterns = new Map([...used].map((i) => [i, new TilePattern(gpu, config, grid, shapes[i]!, keep)]));
  }

  /** Pairs of queries and keys that a head multiplies, as `keptPairs` counts them. */
  pairs(layer: number, head: number): number {
    if (this.options.denseLayers?.has(layer)) return this.#tokens ** 2;
    return this.#patterns.get(this.options.plan.choices[layer]![head]!)!.pairs;
  }

  /**
   * Some heads of each layer; those of one shape go in one dispatch. What is uploaded belongs to the scope around.
   *
   * @param heads for each layer
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
