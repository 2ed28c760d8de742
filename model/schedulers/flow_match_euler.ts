/**
 * Flow matching by Euler's method, like diffusers' `FlowMatchEulerDiscreteScheduler`.
 *
 * @module
 */
import type { SchedulerConfig } from "./config.ts";
import { flowShift, linspace } from "./flow_shift.ts";
import type { Scheduler, Stepper, TensorOps } from "./scheduler.ts";
import { type Sigmas, wanLevels } from "./sigmas.ts";

/** Makes the scheduler for `steps` steps. As in diffusers, the flow shift is also applied to a list of sigmas. */
export function createFlowMatchEuler(config: SchedulerConfig, steps: number, sigmas: Sigmas): Scheduler {
  const { numTrainTimesteps } = config;
  const visited = Float32Array.of(...shiftedLevels(config, steps, sigmas), 0);
  const timesteps = visited.slice(0, steps).map((sigma) => sigma * numTrainTimesteps);
  return {
    kind: "euler",
    timesteps,
    sigmas: visited,
    start: (ops) => new EulerStepper(visited, ops),
  };
}

/** Diffusers handles given levels, including Wan's grid, in float32, and its own in float64. */
function shiftedLevels(
  { numTrainTimesteps, flowShift: shift }: SchedulerConfig,
  steps: number,
  sigmas: Sigmas,
): readonly number[] {
  if (sigmas === "diffusers") {
    const last = lowestSigma(numTrainTimesteps, shift) * numTrainTimesteps;
    return linspace(numTrainTimesteps, last, steps).map((time) => flowShift(time / numTrainTimesteps, shift));
  }
  const given = sigmas === "wan" ? wanLevels(steps, numTrainTimesteps) : sigmas;
  return given.map((sigma) => flowShiftInFloat32(sigma, shift));
}

/** {@link flowShift} with every operation rounded to float32. */
function flowShiftInFloat32(sigma: number, shift: number): number {
  const { fround } = Math, given = fround(sigma);
  return fround(fround(fround(shift) * given) / fround(1 + fround(fround(shift - 1) * given)));
}

/**
 * The noise level at which the spacing of the steps ends. It is shifted here, and then again with all the others,
 * because diffusers does so. Every operation rounds to float32, as there, so that the timesteps are equal.
 */
function lowestSigma(numTrainTimesteps: number, shift: number): number {
  return flowShiftInFloat32(1 / numTrainTimesteps, shift);
}

class EulerStepper<T> implements Stepper<T> {
  #index = 0;

  constructor(private readonly sigmas: Float32Array, private readonly ops: TensorOps<T>) {}

  step(velocity: T, sample: T): T {
    const sigma = this.sigmas[this.#index]!;
    const next = this.sigmas[this.#index + 1];
    if (next === undefined) throw new RangeError(`all ${this.#index} steps have been taken`);
    this.#index++;
    const stepped = this.ops.combine([[1, sample], [next - sigma, velocity]]);
    this.ops.release(velocity);
    this.ops.release(sample);
    return stepped;
  }
}
