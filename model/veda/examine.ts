import { TilereelError } from "../../gpu/common/errors.ts";
import { leastOf } from "./plan_choice.ts";
import type { AttentionState, SamplingRuns } from "./sampling_states.ts";

/** The states of sampling runs that are looked at. */
export interface Looks {
  readonly runs: SamplingRuns;
  /** The number of denoising steps of each run that are examined, spread evenly. */
  readonly looks: number;
  /** Called with the number of finished steps and of all steps. */
  readonly onLook?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Something that is tried on states with each of several candidates. */
export interface Trial {
  /** Records the work on the next layer. */
  record(state: AttentionState): void;
  /** The relative errors of all layers of the step, [layers][heads][candidates]. */
  errors(): Promise<number[][][]>;
}

/** What a trial measured. */
export interface TrialTable {
  /** Means over all states, [layers][heads][candidates]. */
  readonly errors: readonly (readonly Float64Array[])[];
  /** The number of states in which each candidate was the best. */
  readonly votes: readonly (readonly Uint32Array[])[];
}

/**
 * Tries candidates on states of sampling runs, of the prompt's pass.
 *
 * @throws the signal's reason, if it is aborted
 * @throws {TilereelError} if a number is not finite
 */
export async function examine(
  { runs, looks, onLook = () => {}, signal }: Looks,
  trial: Trial,
  candidates: number,
): Promise<TrialTable> {
  const { layers, heads } = runs;
  const table = <T>(make: () => T) => Array.from({ length: layers }, () => Array.from({ length: heads }, make));
  const errors = table(() => new Float64Array(candidates)), votes = table(() => new Uint32Array(candidates));
  const looked = Array.from({ length: runs.count }, (_, run) => spread(runs.steps(run), looks));
  const total = looked.flat().length;
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
        for (const [head, byCandidate] of byHead.entries()) {
          if (!byCandidate.every(Number.isFinite)) {
            throw new TilereelError(
              `layer ${layer}, head ${head}: attention at step ${step + 1} of the sampling run of prompt ${run + 1} ` +
                `is not finite; look at the clip that "tilereel generate" makes of it`,
            );
          }
          for (const [i, error] of byCandidate.entries()) errors[layer]![head]![i]! += error / total;
          votes[layer]![head]![leastOf(byCandidate)]!++;
        }
      }
      onLook(++done, total);
      if (step === steps.at(-1)) ended.abort();
    };
    await runs.sample(run, { onState, onStep, signal: stop }).catch((error) => {
      if (error !== ended.signal.reason || signal?.aborted) throw error;
    });
  }
  return { errors, votes };
}

/** Picks `wanted` of the numbers below `count`, from the middle of equal parts; all if there are no more than that. */
export function spread(count: number, wanted: number): number[] {
  const some = Math.min(count, wanted);
  return Array.from({ length: some }, (_, i) => Math.floor((i + 0.5) * count / some));
}
