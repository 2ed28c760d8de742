import { readTogether } from "../../gpu/read_together.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { type Grid, product } from "../attention/grid.ts";
import { NonFiniteError } from "../training/non_finite_error.ts";
import type { HeadShape } from "../attention/layout.ts";
import type { AttentionState } from "./sampling_states.ts";
import { type TileFigures, tileGradients } from "./tile_gradients.ts";
import { termsOf } from "./scorer.ts";
import { headsByShape, TilePatterns } from "./tile_groups.ts";
import type { TileParameters, UpdateOptions } from "./tile_parameters.ts";
import { defaultShape, type TileShapes, uniformShapes } from "./tile_shapes.ts";
import type { TileLoss } from "./training_options.ts";
import type { Target } from "./veda_file.ts";

/** How scorers are updated, and on which tiles. */
export interface ScorerUpdateOptions {
  readonly gpu: Gpu;
  readonly shape: HeadShape;
  readonly recipe: UpdateOptions & { readonly target: Target; readonly loss: TileLoss };
  readonly tileTokens: number;
  /** The shapes, which have that number of tokens. Default: one that suits the grid */
  readonly shapes?: TileShapes | undefined;
  /** The share of tiles at which agreement with the oracle is measured. */
  readonly keep: number;
}

/** The figures of one step, of the scores before it. */
export interface ScorerFigures {
  /** The loss: mean over query tiles, then heads, then layers. */
  readonly loss: number;
  /** The share of the oracle's tiles, without each row's own, that the scores keep, too. */
  readonly recall: number;
  /** The share of attention in the tiles that the scores keep, and in those that the oracle keeps. */
  readonly kept: number;
  readonly oracle: number;
  /** The loss and the recall of each layer. */
  readonly losses: readonly number[];
  readonly recalls: readonly number[];
}

/** Figures on the GPU, of the heads of a layer that share a shape. */
interface RecordedFigures extends TileFigures {
  readonly tiles: number;
  readonly tokens: number;
}

/** Records the updates of all layers' scorers in one training step, and reads their figures when it is done. */
export class ScorerUpdates implements Disposable {
  readonly #patterns: TilePatterns;
  readonly #groups = new Map<string, ReturnType<typeof headsByShape>>();
  readonly #owner: TensorOwner;
  /** By layer, then by group. */
  #recorded: RecordedFigures[][] = [];

  constructor(private readonly options: ScorerUpdateOptions, private readonly parameters: TileParameters) {
    const { gpu, shape, keep } = options;
    this.#owner = new TensorOwner(gpu);
    this.#patterns = new TilePatterns(gpu, shape, keep);
  }

  /**
   * Records the update of a layer from its attention.
   *
   * @param step counts from 1
   */
  record(state: AttentionState, step: number): void {
    const { gpu, shape, recipe } = this.options, { layer, layout } = state;
    const groups = this.#groupsOf(layout.grid)[layer]!;
    gpu.scope(() => {
      const { target, loss } = recipe;
      const scores = { projections: this.parameters.projections(layer), terms: termsOf(target), target, loss };
      const gradients = { q: this.parameters.gradient(), k: this.parameters.gradient() };
      this.#recorded[layer] = groups.map((group) => {
        const pattern = this.#patterns.of(layout, group.of);
        const figures = tileGradients(gpu, state, shape, pattern, group, scores, gradients);
        this.#owner.adopt(Object.values(figures));
        return { ...figures, tiles: pattern.tiled.tiles.length, tokens: product(layout.grid) };
      });
      this.parameters.update(layer, gradients, step, recipe);
    });
  }

  /**
   * Reads the figures of the step's updates.
   *
   * @throws {NonFiniteError} if a loss is not finite
   */
  async figures(): Promise<ScorerFigures> {
    const { gpu, shape: { heads, layers } } = this.options, recorded = this.#recorded;
    if (Object.keys(recorded).length !== layers) throw new Error(`a step did not show all ${layers} layers`);
    this.#recorded = [];
    const tensors = recorded.flat().flatMap(({ loss, agreement }) => [loss, agreement]);
    const numbers = await readTogether(gpu, tensors);
    this.#owner.free(...tensors);
    const losses: number[] = [], recalls: number[] = [];
    let kept = 0, oracle = 0;
    for (const [layer, groups] of recorded.entries()) {
      let loss = 0, both = 0, wanted = 0;
      for (const { tiles, tokens } of groups) {
        const [sums, agreement] = numbers.splice(0, 2) as [Float32Array, Float32Array];
        loss += sums.reduce((sum, x) => sum + x / (tiles * heads), 0);
        for (let at = 0; at < agreement.length; at += 4) {
          both += agreement[at]!;
          wanted += agreement[at + 1]!;
          kept += agreement[at + 2]! / (tokens * heads * layers);
          oracle += agreement[at + 3]! / (tokens * heads * layers);
        }
      }
      if (!Number.isFinite(loss)) throw new NonFiniteError(layer);
      losses.push(loss);
      // If each row keeps only its own tile, nothing can be missed.
      recalls.push(wanted === 0 ? 1 : both / wanted);
    }
    return { loss: mean(losses), recall: mean(recalls), kept, oracle, losses, recalls };
  }

  [Symbol.dispose](): void {
    this.#patterns[Symbol.dispose]();
    this.#owner[Symbol.dispose]();
  }

  #groupsOf(grid: Grid) {
    const { shape, shapes, tileTokens } = this.options, id = shapes ? "" : String(grid);
    let groups = this.#groups.get(id);
    if (!groups) {
      groups = headsByShape(this.#owner, shapes ?? uniformShapes(defaultShape(grid, tileTokens), shape));
      this.#groups.set(id, groups);
    }
    return groups;
  }
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0) / numbers.length;
}
