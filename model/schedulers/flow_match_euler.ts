/**
 * Flow matching by Euler's method, as diffusers' `FlowMatchEulerDiscreteScheduler`.
 *
 * @module
 */
import type { SchedulerConfig } from "./config.ts";
import { flowShift, linspace } from "./flow_shift.ts";
import type { Scheduler, Stepper, TensorOps } from "./scheduler.ts";

/** Makes the scheduler for `steps` steps. */
export function createFlowMatchEuler(config: SchedulerConfig, steps: number): Scheduler {
  const { numTrainTimesteps, flowShift: shift } = config;
  const last = lowestSigma(numTrainTimesteps, shift) * numTrainTimesteps;
  const levels = linspace(numTrainTimesteps, last, steps).map((time) => flowShift(time / numTrainTimesteps, shift));
  const sigmas = Float32Array.of(...levels, 0);
  const timesteps = sigmas.slice(0, steps).map((sigma) => sigma * numTrainTimesteps);
  return {
    kind: "euler",
    timesteps,
    sigmas,
    start: (ops) => new EulerStepper(sigmas, ops),
  };
}

/**
 * The noise level that the spacing of the steps ends at. It is shifted here and then once more with all the others,
 * since diffusers does so; every operation rounds to float32, as there, so that the timesteps come out equal.
 */
function lowestSigma(numTrainTimesteps: number, shift: number): number {
  const { fround } = Math;
  const sigma = fround(1 / numTrainTimesteps);
  return fround(fround(shift * sigma) / fround(1 + fround((shift - 1) * sigma)));
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

  dispose(): void {
    // Euler's method keeps nothing from step to step.
  }
}
