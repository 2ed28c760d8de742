import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { groupHeads, type HeadGroup, headsAtOnce, type SomeHeads } from "../attention/head_groups.ts";
import type { AttentionTask } from "../attention/method.ts";
import { FullAttention } from "../attention/full.ts";
import { type HeadShape, type TokenLayout, validTokens } from "../attention/layout.ts";
import { TileAttention } from "./tile_attention.ts";
import { checkTiles, kindsTogether, type TileKind, tileKind } from "./tile_kind.ts";
import type { TileShapes } from "./tile_shapes.ts";
import { randomBits } from "../training/random.ts";
import { MASS_TERMS, type Projections, type ScoreTerms } from "./scorer.ts";

/** What the tiles of all layers are scored by; "random" is for comparison. */
export type VedaScores = "random" | {
  /** By layer; owned by the caller. Without them, tiles' vectors are their means. */
  readonly projections?: readonly Projections<Tensor>[] | undefined;
  readonly terms: ScoreTerms;
};

/** The settings of {@link VedaAttention}. */
export interface VedaAttentionOptions {
  readonly shapes: TileShapes;
  /** ρ, the share of tiles to keep. */
  readonly keep: number;
  /** What tiles are scored by. Default: {@link MASS_TERMS} */
  readonly scores?: VedaScores;
  /** As in `VedaOptions`. Outputs are then in f32, and neither q nor v. */
  readonly rest?: boolean | undefined;
  /** The layers that use full attention. */
  readonly denseLayers?: ReadonlySet<number>;
}

/** The step and the pass that attention is recorded for. */
export interface PassOfStep {
  readonly step: number;
  readonly pass: number;
  /** As in `AttentionTask`. */
  readonly onTiles?: AttentionTask["onTiles"];
}

/** For each layer, its heads in groups of one pattern; without a pattern, they use full attention. */
type Groups = readonly (readonly HeadGroup<TileAttention | undefined>[])[];

/** Veda's self-attention of all layers over one layout. Its patterns are on the GPU until it is disposed of. */
export class VedaAttention implements Disposable {
  readonly #held: DisposableStack;
  readonly #full: FullAttention;
  /** By shape and budget, which heads share. */
  readonly #kinds = new Map<string, TileKind>();
  /** The pattern that computes the heads of a kind. Each is made when it is used first. */
  readonly #patterns = new Map<TileKind, TileAttention>();
  /** The groups of all heads, with and without full attention in all layers: steps have the same ones. */
  readonly #ofAll = new Map<boolean, Groups>();
  readonly #owner: TensorOwner;

  constructor(
    private readonly gpu: Gpu,
    private readonly config: Omit<HeadShape, "layers">,
    private readonly layout: TokenLayout,
    private readonly options: VedaAttentionOptions,
  ) {
    for (const shape of options.shapes.shapes) checkTiles(layout.grid, shape);
    using building = new DisposableStack();
    this.#owner = building.use(new TensorOwner(gpu));
    this.#full = building.use(new FullAttention(gpu, config, layout));
    this.#held = building.move();
  }

  /** The pairs of queries and keys that one head multiplies, counted by `keptPairs`; `dense` as in {@link some}. */
  pairs(layer: number, head: number, dense = false): number {
    return (dense ? undefined : this.#kindOf(layer, head))?.pairs ?? validTokens(this.layout) ** 2;
  }

  /**
   * Computes some heads of each layer; heads of kinds that fit together share a dispatch. Uploads belong to the enclosing
   * scope, except where these are all heads.
   *
   * @param heads the heads for each layer, in ascending order
   * @param dense whether all layers use full attention
   * @param at random tiles differ from step to step
   */
  some(heads: readonly (readonly number[])[], dense = false, at: PassOfStep = { step: 0, pass: 0 }): SomeHeads {
    const { gpu, options: { scores = { terms: MASS_TERMS }, rest } } = this, groups = this.#groupsOf(heads, dense);
    return (q, k, v, layer, into) => {
      for (const { of: pattern, heads, only } of groups[layer]!) {
        gpu.scope(() => {
          if (!pattern) this.#full.attend(q, k, v, { only, into });
          else {
            const runs = gpu.scope(() => {
              const scored = scores === "random"
                ? pattern.randomScores(q.dim(0), randomBits(at.step, layer))
                : pattern.scores(q, k, { ...scores, projections: scores.projections?.[layer] }, only);
              return pattern.select(scored, only);
            });
            const { layout, budget } = pattern, kinds = () => heads.map((head) => this.#kindOf(layer, head)!);
            at.onTiles?.({ ...at, layer, heads, only, runs, layout, budget, kinds: kinds() });
            pattern.attend(q, k, v, runs, { only, into, rest });
          }
        });
      }
    };
  }

  /** Groups the heads of each layer that are computed together. Those that take the longest begin first. */
  #groupsOf(heads: readonly (readonly number[])[], dense: boolean): Groups {
    const { gpu, config, layout } = this, most = headsAtOnce(gpu, config, validTokens(layout));
    const patternOf = (layer: number, head: number) => {
      const kind = dense ? undefined : this.#kindOf(layer, head);
      return kind && this.#patternOf(kind);
    };
    const number = (layer: number, head: number) =>
      patternOf(layer, head)?.kinds.indexOf(this.#kindOf(layer, head)!) ?? 0;
    const group = () => {
      const pairs = (layer: number, head: number) => this.pairs(layer, head, dense);
      const ordered = heads.map((list, layer) => list.toSorted((a, b) => pairs(layer, b) - pairs(layer, a)));
      return groupHeads(gpu, ordered, patternOf, most, number);
    };
    if (heads.some(({ length }) => length < config.heads)) return group();
    let groups = this.#ofAll.get(dense);
    if (!groups) {
      const { result, tensors } = gpu.collect(group);
      this.#owner.adopt(tensors);
      this.#ofAll.set(dense, groups = result);
    }
    return groups;
  }

  /** Undefined where the layer uses full attention. */
  #kindOf(layer: number, head: number): TileKind | undefined {
    const { layout, options: { denseLayers, shapes: { shapes, choices, budgets }, keep } } = this;
    if (denseLayers?.has(layer)) return undefined;
    const shape = choices[layer]![head]!, share = Math.min(1, keep * (budgets?.[layer]?.[head] ?? 1));
    const id = `${shape} ${share}`;
    let kind = this.#kinds.get(id);
    if (!kind) this.#kinds.set(id, kind = tileKind(layout, shapes[shape]!, share));
    return kind;
  }

  #patternOf(kind: TileKind): TileAttention {
    const { gpu, config, layout, options: { scores, shapes: { choices } } } = this;
    const made = this.#patterns.get(kind);
    if (made) return made;
    const all = () => choices.flatMap((heads, layer) => [...heads].map((_, head) => this.#kindOf(layer, head)));
    // Random scores depend on the number of tiles.
    const kinds = scores === "random"
      ? [kind]
      : kindsTogether([...new Set(all().filter((kind) => kind !== undefined))]).find((kinds) => kinds.includes(kind))!;
    const pattern = this.#held.use(new TileAttention(gpu, config, layout, kinds));
    for (const kind of kinds) this.#patterns.set(kind, pattern);
    return pattern;
  }

  [Symbol.dispose](): void {
    this.#held.dispose();
  }
}
