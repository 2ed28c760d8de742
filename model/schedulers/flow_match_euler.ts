import type { SchedulerConfig } from "./config.ts";
import type { Scheduler } from "./scheduler.ts";
import { SingleStepper } from "./single_stepper.ts";
import { flowShift, givenLevels, linspace, type Sigmas } from "./sigmas.ts";

/**
 * Flow matching by Euler's method for `steps` steps, like diffusers' `FlowMatchEulerDiscreteScheduler`. As there, the
 * flow shift is also applied to a list of sigmas.
 */
export function createFlowMatchEuler(config: SchedulerConfig, steps: number, sigmas: Sigmas): Scheduler {
  const { numTrainTimesteps, flowShift: shift } = config;
  // Diffusers shifts levels that it is given in float32, and its own in float64.
  const levels = givenLevels(sigmas, steps, numTrainTimesteps)?.map((sigma) => flowShiftInFloat32(sigma, shift)) ??
    ownLevels(config, steps);
  const visited = Float32Array.of(...levels, 0);
  return {
    kind: "euler",
    timesteps: visited.slice(0, steps).map((sigma) => sigma * numTrainTimesteps),
    sigmas: visited,
    start: (ops, from) =>
      new SingleStepper(visited, ops, from, ({ sigma, next, velocity, sample }) => [
        [1, sample],
        [next - sigma, velocity],
      ]),
  };
}

/** The last level is shifted before the levels are spaced, and then again with all of them, because diffusers does so. */
function ownLevels({ numTrainTimesteps, flowShift: shift }: SchedulerConfig, steps: number): number[] {
  const last = flowShiftInFloat32(1 / numTrainTimesteps, shift);
  return linspace(numTrainTimesteps, last * numTrainTimesteps, steps)
    .map((time) => flowShift(time / numTrainTimesteps, shift));
}

/** {@link flowShift} with every operation rounded to float32, so that the timesteps are diffusers'. */
export function flowShiftInFloat32(sigma: number, shift: number): number {
  const { fround } = Math, given = fround(sigma);
  return fround(fround(fround(shift) * given) / fround(1 + fround(fround(shift - 1) * given)));
}
