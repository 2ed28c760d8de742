import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { readTogether } from "../../gpu/read_together.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { Grid } from "../attention/grid.ts";
import { oracleError, squaredNorm } from "./oracle_error.ts";
import type { AttentionState, SamplingRuns } from "./sampling_states.ts";
import { TilePatterns } from "./tile_groups.ts";
import { leastOf, type SearchTable } from "./plan_choice.ts";
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
export interface TileSearch {
  readonly gpu: Gpu;
  readonly runs: SamplingRuns;
  /** The shapes to try; all have the same number of tokens. */
  readonly shapes: readonly TileShape[];
  /** The share of the pairs of tiles that the oracle keeps. */
  readonly keep: number;
  /** The number of denoising steps of each run that are examined, spread evenly. */
  readonly looks: number;
  /** Called with the number of finished steps and of all steps. */
  readonly onLook?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Measures how well each shape of tile suits each head (Veda's head-aware tiling, offline), on states of sampling runs:
 * the error of attention when an oracle selects the tiles.
 *
 * @throws the signal's reason, if it is aborted
 * @throws {TilereelError} if a number is not finite
 */
export async function searchTiles(search: TileSearch): Promise<SearchTable> {
  const { runs, shapes, looks, onLook = () => {}, signal } = search;
  const { layers, heads } = runs;
  const table = <T>(make: () => T) => Array.from({ length: layers }, () => Array.from({ length: heads }, make));
  const errors = table(() => new Float64Array(shapes.length)), votes = table(() => new Uint32Array(shapes.length));
  const looked = Array.from({ length: runs.count }, (_, run) => spread(runs.steps(run), looks));
  const total = looked.flat().length;
  using trial = new ShapeTrial(search);
  let done = 0;
  onLook(done, total);
  for (const [run, steps] of looked.entries()) {
    const ended = new AbortController(), stop = AbortSignal.any([ended.signal, ...signal ? [signal] : []]);
    const onState = (state: AttentionState) => {
      if (state.pass === 0 && steps.includes(state.step)) trial.record(state);
    };
    const onStep = async (step: number) => {
      if (!steps.includes(step)) return;
      for (const [layer, byHead] of (await trial.errors()).entries()) {
        for (const [head, byShape] of byHead.entries()) {
          if (!byShape.every(Number.isFinite)) {
            throw new TilereelError(
              `layer ${layer}, head ${head}: attention at step ${step + 1} of the sampling run of prompt ${run + 1} ` +
                `is not finite; look at the clip that "tilereel generate" makes of it`,
            );
          }
          for (const [shape, error] of byShape.entries()) errors[layer]![head]![shape]! += error / total;
          votes[layer]![head]![leastOf(byShape)]!++;
        }
      }
      onLook(++done, total);
      if (step === steps.at(-1)) ended.abort();
    };
    await runs.sample(run, { onState, onStep, signal: stop }).catch((error) => {
      if (error !== ended.signal.reason || signal?.aborted) throw error;
    });
  }
  return { shapes, errors, votes };
}

/** Tries all shapes on the layers of one state after the other. It holds GPU memory until it is disposed of. */
class ShapeTrial implements Disposable {
  readonly #patterns: TilePatterns;
  readonly #owner: TensorOwner;
  /** For each layer ‖y‖², then the error for each shape; [1, heads] each. */
  #recorded: Tensor[] = [];

  constructor(private readonly search: TileSearch) {
    const { gpu, runs, keep } = search;
    this.#patterns = new TilePatterns(gpu, runs, keep);
    this.#owner = new TensorOwner(gpu);
  }

  /** Records the work on the next layer. */
  record(state: AttentionState): void {
    const { gpu, runs: { heads }, shapes } = this.search;
    const patterns = shapes.map((shape) => this.#patterns.of(state.layout, shape));
    const errors = patterns.map((pattern) => oracleError(gpu, state, pattern, heads));
    this.#recorded.push(...this.#owner.adopt([squaredNorm(gpu, state.y, heads), ...errors]));
  }

  /** The relative errors of all layers, [layers][heads][shapes]. */
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

/** Picks `wanted` of the numbers below `count`, from the middle of equal parts; all if there are no more than that. */
export function spread(count: number, wanted: number): number[] {
  const some = Math.min(count, wanted);
  return Array.from({ length: some }, (_, i) => Math.floor((i + 0.5) * count / some));
}
