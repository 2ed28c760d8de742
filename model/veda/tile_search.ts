/**
 * Head-aware tiling, offline: finds the shape of tile that suits each head. It measures the error of attention with
 * each shape when an oracle selects the tiles.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { readTogether } from "../../gpu/read_together.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Grid } from "../attention/grid.ts";
import { oracleError, squaredNorm } from "./oracle_error.ts";
import type { AttentionState, SamplingRuns } from "./sampling_states.ts";
import { TilePatterns } from "./tile_groups.ts";
import { type TilePlan, uniformPlan } from "./tile_plan.ts";
import { MAX_PADDING, padding, type TileShape, tileShapes } from "./tiling.ts";

/**
 * The shapes to try on a grid: of all with `capacity` tokens, those that pad it by at most {@link MAX_PADDING}.
 *
 * @throws {TilereelError} if there is none
 */
export function candidateShapes(grid: Grid, capacity: number): TileShape[] {
  const shapes = tileShapes(capacity).filter((shape) => padding(grid, shape) <= MAX_PADDING);
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

/** The result of a search: errors ‖O_sparse − O_full‖² / ‖O_full‖², [layers][heads][shapes]. */
export interface SearchTable {
  readonly shapes: readonly TileShape[];
  /** Means over all states. */
  readonly errors: readonly (readonly Float64Array[])[];
  /** The number of states in which each shape was the best. */
  readonly votes: readonly (readonly Uint32Array[])[];
}

/**
 * Tries all shapes on every layer and head, for states of sampling runs.
 *
 * @throws the signal's reason, if it is aborted
 * @throws {TilereelError} if a number is not finite
 */
export async function searchTiles(search: TileSearch): Promise<SearchTable> {
  const { gpu, runs, shapes, keep, looks, onLook = () => {}, signal } = search;
  const { layers, heads, headDim } = runs;
  const empty = <T>(make: () => T) => Array.from({ length: layers }, () => Array.from({ length: heads }, make));
  const errors = empty(() => new Float64Array(shapes.length));
  const votes = empty(() => new Uint32Array(shapes.length));
  using patterns = new TilePatterns(gpu, { heads, headDim }, keep);
  const steps = (run: number) => spread(runs.steps(run), looks);
  const total = Array.from({ length: runs.count }, (_, run) => steps(run).length).reduce((a, b) => a + b);
  let done = 0;
  onLook(done, total);
  for (let run = 0; run < runs.count; run++) {
    const wanted = steps(run), ended = new AbortController();
    /** For each layer ‖y‖², then the error for each shape. */
    let found: Tensor[] = [];
    const onState = (state: AttentionState) => {
      if (state.pass !== 0 || !wanted.includes(state.step)) return;
      found.push(gpu.keep(squaredNorm(gpu, state.y, heads)));
      for (const shape of shapes) {
        found.push(gpu.keep(oracleError(gpu, state, patterns.of(state.layout, shape), heads)));
      }
    };
    const onStep = async (step: number) => {
      if (!wanted.includes(step)) return;
      if (found.length !== layers * (1 + shapes.length)) {
        throw new Error(`step ${step} did not show all ${layers} layers`);
      }
      const numbers = await readTogether(gpu, found);
      for (const tensor of found.splice(0)) gpu.release(tensor);
      for (let layer = 0; layer < layers; layer++) {
        const [norms, ...byShape] = numbers.splice(0, 1 + shapes.length) as [Float32Array, ...Float32Array[]];
        for (let head = 0; head < heads; head++) {
          const relative = byShape.map((error) => error[head]! / norms[head]!);
          const best = leastOf(relative);
          if (!relative.every(Number.isFinite)) {
            throw new TilereelError(
              `layer ${layer}, head ${head}: attention at step ${step + 1} of the sampling run of prompt ${run + 1} ` +
                `is not finite; look at the clip that "tilereel generate" makes of it`,
            );
          }
          for (const [i, error] of relative.entries()) errors[layer]![head]![i]! += error / total;
          votes[layer]![head]![best]!++;
        }
      }
      onLook(++done, total);
      if (step === wanted.at(-1)) ended.abort();
    };
    try {
      await runs.sample(run, {
        onState,
        onStep,
        signal: signal ? AbortSignal.any([signal, ended.signal]) : ended.signal,
      });
    } catch (error) {
      if (error !== ended.signal.reason || signal?.aborted) throw error;
    } finally {
      for (const tensor of found) gpu.release(tensor);
      found = [];
    }
  }
  return { shapes, errors, votes };
}

/**
 * Each head's shape, as an index into the table's shapes: the one with the most votes; ties go to the smaller error. If
 * a layer would need more than `most` shapes, those that most heads chose remain, and the other heads take the best of
 * them.
 */
export function choosePlan({ shapes, errors, votes }: SearchTable, most: number): TilePlan {
  const choices = votes.map((byHead, layer) => {
    const best = (head: number, among: readonly number[]) =>
      among.reduce((a, b) => {
        const more = byHead[head]![b]! - byHead[head]![a]!;
        return more > 0 || more === 0 && errors[layer]![head]![b]! < errors[layer]![head]![a]! ? b : a;
      });
    const all = [...shapes.keys()];
    const first = byHead.map((_, head) => best(head, all));
    const wanted = all.map((shape) => first.filter((own) => own === shape).length);
    // Equal counts keep their order, because sorting is stable.
    const left = all.filter((shape) => wanted[shape]! > 0).sort((a, b) => wanted[b]! - wanted[a]!).slice(0, most);
    return first.map((own, head) => left.includes(own) ? own : best(head, left));
  });
  const used = [...shapes.keys()].filter((shape) => choices.some((layer) => layer.includes(shape)));
  return {
    shapes: used.map((shape) => shapes[shape]!),
    choices: choices.map((layer) => Uint8Array.from(layer, (shape) => used.indexOf(shape))),
  };
}

/** The mean error over layers and heads, for a plan of the table's shapes. */
export function meanError({ shapes, errors }: SearchTable, plan: TilePlan): number {
  const places = plan.shapes.map((shape) => shapes.findIndex((other) => String(other) === String(shape)));
  const all = errors.flatMap((byHead, layer) =>
    byHead.map((byShape, head) => byShape[places[plan.choices[layer]![head]!]!]!)
  );
  return all.reduce((a, b) => a + b) / all.length;
}

/** The single shape that is best for all heads together. */
export function bestSingle(table: SearchTable): TileShape {
  const { shapes, errors } = table, size = { layers: errors.length, heads: errors[0]!.length };
  return shapes[leastOf(shapes.map((shape) => meanError(table, uniformPlan(shape, size))))]!;
}

/** Picks `wanted` of the numbers below `count`, from the middle of equal parts; all if there are no more than that. */
export function spread(count: number, wanted: number): number[] {
  const some = Math.min(count, wanted);
  return Array.from({ length: some }, (_, i) => Math.floor((i + 0.5) * count / some));
}

/** The index of the smallest number; the first of equal ones. */
function leastOf(numbers: readonly number[]): number {
  return numbers.reduce((best, x, i) => x < numbers[best]! ? i : best, 0);
}
