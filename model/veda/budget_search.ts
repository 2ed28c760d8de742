import type { Gpu } from "../../gpu/gpu.ts";
import { tileHeat } from "../../gpu/ops/tile_heat.ts";
import { readTogether } from "../../gpu/read_together.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { HeadGroup } from "../attention/head_groups.ts";
import { examine, type Looks, type Trial, type TrialTable } from "./examine.ts";
import { sparseError, squaredNorm } from "./oracle_error.ts";
import type { AttentionState } from "./sampling_states.ts";
import { headsByShape, TilePatterns } from "./tile_groups.ts";
import type { TileShape, TileShapes } from "./tile_shapes.ts";

/** The budgets that a head may have, as multiples of the share to keep. Few, because each is tried on every head. */
export const BUDGETS = [0.5, 0.75, 1, 1.5, 2] as const;

/** Options of {@link searchBudgets}. */
export interface BudgetSearch extends Looks {
  readonly gpu: Gpu;
  readonly shapes: TileShapes;
  /** The share of the pairs of tiles that is kept on average. */
  readonly keep: number;
}

/**
 * Measures the error of each head's attention with each of {@link BUDGETS}, when an oracle selects the tiles with the
 * most mass.
 *
 * @throws as `searchTiles` does
 */
export async function searchBudgets(search: BudgetSearch): Promise<TrialTable> {
  using trial = new BudgetTrial(search);
  return await examine(search, trial, BUDGETS.length);
}

/** Tries all budgets on the layers of one state after the other. It holds GPU memory until it is disposed of. */
class BudgetTrial implements Trial, Disposable {
  readonly #held = new DisposableStack();
  readonly #owner: TensorOwner;
  readonly #patterns: readonly TilePatterns[];
  readonly #groups: readonly (readonly HeadGroup<TileShape>[])[];
  /** For each layer ‖y‖², then for each group of heads the error with each budget; [1, heads] each. */
  #recorded: Tensor[][] = [];

  constructor(private readonly search: BudgetSearch) {
    const { gpu, runs, keep, shapes } = search;
    this.#patterns = BUDGETS.map((budget) => this.#held.use(new TilePatterns(gpu, runs, Math.min(1, keep * budget))));
    this.#owner = this.#held.use(new TensorOwner(gpu));
    this.#groups = headsByShape(this.#owner, shapes);
  }

  record(state: AttentionState): void {
    const { gpu, runs: { heads } } = this.search, { layer, layout } = state;
    const errors = this.#groups[layer]!.flatMap(({ of: shape, only }) => {
      const patterns = this.#patterns.map((patterns) => patterns.of(layout, shape));
      const made = gpu.scope(() => {
        const { sum } = tileHeat(gpu, state.q, state.k, state.lse, { heads, layout: patterns[0]!.layout, only });
        return patterns.map((pattern) => sparseError(gpu, state, pattern.select(sum, only), pattern, heads, only));
      });
      return made;
    });
    this.#recorded[layer] = this.#owner.adopt([squaredNorm(gpu, state.y, heads), ...errors]) as Tensor[];
  }

  async errors(): Promise<number[][][]> {
    const { gpu, runs: { layers, heads } } = this.search, recorded = this.#recorded;
    if (Object.keys(recorded).length !== layers) throw new Error(`a step did not show all ${layers} layers`);
    this.#recorded = [];
    const numbers = await readTogether(gpu, recorded.flat());
    this.#owner.free(...recorded.flat());
    return this.#groups.map((groups) => {
      const norms = numbers.shift()!, byHead: number[][] = Array.from({ length: heads }, () => []);
      for (const { heads: own } of groups) {
        const byBudget = numbers.splice(0, BUDGETS.length);
        for (const head of own) byHead[head] = byBudget.map((errors) => errors[head]! / norms[head]!);
      }
      return byHead;
    });
  }

  [Symbol.dispose](): void {
    this.#held.dispose();
  }
}
