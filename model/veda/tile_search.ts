import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { readTogether } from "../../gpu/read_together.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { Grid } from "../attention/grid.ts";
import { oracleError, squaredNorm } from "./oracle_error.ts";
import type { AttentionState } from "./sampling_states.ts";
import { TilePatterns } from "./tile_groups.ts";
import { examine, type Looks, type Trial } from "./examine.ts";
import type { SearchTable } from "./plan_choice.ts";
import { MAX_PADDING, padding, possibleShapes, type TileShape } from "./tile_shapes.ts";

/**
 * The shapes to try on a grid: of all with `capacity` tokens, those that pad it by at most {@link MAX_PADDING}.
 *
 * @throws {TilereelError} if there is none
 */
export function candidateShapes(grid: Grid, capacity: number): TileShape[] {
  const shapes = possibleShapes(capacity).filter((shape) => padding(grid, shape) <= MAX_PADDING);
  if (shapes.length > 0) return shapes;
  throw new TilereelError(
    `no tile of ${capacity} tokens fits a grid of ${grid.join("x")} tokens with at most ${100 * MAX_PADDING} % of ` +
      `padding: choose tiles of fewer tokens, or larger or longer clips`,
  );
}

/** Options of {@link searchTiles}. */
export interface TileSearch extends Looks {
  readonly gpu: Gpu;
  /** The shapes to try; all have the same number of tokens. */
  readonly shapes: readonly TileShape[];
  /** The share of the pairs of tiles that the oracle keeps. */
  readonly keep: number;
}

/**
 * Measures how well each shape of tile suits each head (Veda's head-aware tiling, offline), on states of sampling runs:
 * the error of attention when an oracle selects the tiles.
 *
 * @throws the signal's reason, if it is aborted
 * @throws {TilereelError} if a number is not finite
 */
export async function searchTiles(search: TileSearch): Promise<SearchTable> {
  using trial = new ShapeTrial(search);
  return { shapes: search.shapes, ...await examine(search, trial, search.shapes.length) };
}

/** Tries all shapes on the layers of one state after the other. It holds GPU memory until it is disposed of. */
class ShapeTrial implements Trial, Disposable {
  readonly #patterns: TilePatterns;
  readonly #owner: TensorOwner;
  /** For each layer ‖y‖², then the error for each shape; [1, heads] each. */
  #recorded: Tensor[] = [];

  constructor(private readonly search: TileSearch) {
    const { gpu, runs, keep } = search;
    this.#patterns = new TilePatterns(gpu, runs, keep);
    this.#owner = new TensorOwner(gpu);
  }

  record(state: AttentionState): void {
    const { gpu, runs: { heads }, shapes } = this.search;
    const patterns = shapes.map((shape) => this.#patterns.of(state.layout, shape));
    const errors = patterns.map((pattern) => oracleError(gpu, state, pattern, heads));
    this.#recorded.push(...this.#owner.adopt([squaredNorm(gpu, state.y, heads), ...errors]));
  }

  async errors(): Promise<number[][][]> {
    const { gpu, runs: { layers, heads }, shapes } = this.search, recorded = this.#recorded;
    if (recorded.length !== layers * (1 + shapes.length)) throw new Error(`a step did not show all ${layers} layers`);
    this.#recorded = [];
    const numbers = await readTogether(gpu, recorded);
    this.#owner.free(...recorded);
    return Array.from({ length: layers }, () => {
      const [norms, ...byShape] = numbers.splice(0, 1 + shapes.length) as [Float32Array, ...Float32Array[]];
      return Array.from({ length: heads }, (_, head) => byShape.map((errors) => errors[head]! / norms[head]!));
    });
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
    this.#patterns[Symbol.dispose]();
  }
}
