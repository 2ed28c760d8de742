/**
 * The sampler of few-step models: each step estimates the clean sample and adds fresh noise to it. With flow matching,
 * this is diffusers' `FlowMatchLCMScheduler`, what Wan's 4-step LoRAs of lightx2v are run with, and FastVideo's
 * `DmdDenoisingStage`, which rounds timesteps to integers.
 *
 * @module
 */
import type { SchedulerConfig } from "./config.ts";
import { flowShiftInFloat32 } from "./flow_match_euler.ts";
import type { Scheduler } from "./scheduler.ts";
import { SingleStepper } from "./single_stepper.ts";
import { givenLevels, SIGMA_GRIDS, type Sigmas } from "./sigmas.ts";

/** Makes the scheduler for `steps` steps. A list of sigmas is shifted, too. */
export function createLcm(config: SchedulerConfig, steps: number, sigmas: Sigmas): Scheduler {
  const { numTrainTimesteps: trained, flowShift } = config;
  const levels = givenLevels(sigmas, steps, trained) ?? SIGMA_GRIDS.hunyuan.levels!(steps, trained);
  const visited = Float32Array.of(...levels.map((sigma) => flowShiftInFloat32(sigma, flowShift)), 0);
  return {
    kind: "lcm",
    timesteps: visited.slice(0, steps).map((sigma) => sigma * trained),
    sigmas: visited,
    start: (ops, from) =>
      new SingleStepper(visited, ops, from, ({ sigma, next, velocity, sample }) => {
        const clean = 1 - next;
        // x₀ = x − σ·v, and then (1 − σ′)·x₀ + σ′·noise.
        return [
          [clean, sample],
          [-clean * sigma, velocity],
          ...next > 0 ? [[next, ops.noise()] as const] : [],
        ];
      }),
  };
}

/** As {@link createLcm}, with integer timesteps. */
export function createDmd(config: SchedulerConfig, steps: number, sigmas: Sigmas): Scheduler {
  const scheduler = createLcm(config, steps, sigmas);
  return { ...scheduler, kind: "dmd", timesteps: scheduler.timesteps.map(Math.round) };
}
