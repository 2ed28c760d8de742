/**
 * The sampler of few-step models: each step estimates the clean sample and adds fresh noise to it. With flow matching,
 * this is diffusers' `FlowMatchLCMScheduler`, what Wan's 4-step LoRAs of lightx2v are run with, and FastVideo's
 * `DmdDenoisingStage`, which rounds timesteps to integers.
 *
 * @module
 */
import type { SchedulerConfig } from "./config.ts";
import { flowShiftInFloat32 } from "./flow_match_euler.ts";
import type { Scheduler, Stepper, TensorOps } from "./scheduler.ts";
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
    start: (ops) => new LcmStepper(visited, ops),
  };
}

/** As {@link createLcm}, with integer timesteps. */
export function createDmd(config: SchedulerConfig, steps: number, sigmas: Sigmas): Scheduler {
  const scheduler = createLcm(config, steps, sigmas);
  return { ...scheduler, kind: "dmd", timesteps: scheduler.timesteps.map(Math.round) };
}

class LcmStepper<T> implements Stepper<T> {
  #index = 0;

  constructor(private readonly sigmas: Float32Array, private readonly ops: TensorOps<T>) {}

  step(velocity: T, sample: T): T {
    const sigma = this.sigmas[this.#index]!, next = this.sigmas[this.#index + 1];
    if (next === undefined) throw new RangeError(`all ${this.#index} steps have been taken`);
    this.#index++;
    const { ops } = this, clean = 1 - next;
    // x₀ = x − σ·v, and then (1 − σ′)·x₀ + σ′·noise.
    const noise = next > 0 ? ops.noise() : undefined;
    const stepped = ops.combine([
      [clean, sample],
      [-clean * sigma, velocity],
      ...noise === undefined ? [] : [[next, noise] as const],
    ]);
    for (const used of [velocity, sample, ...noise === undefined ? [] : [noise]]) ops.release(used);
    return stepped;
  }
}
