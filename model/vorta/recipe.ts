/**
 * How the authors train a router: which timesteps, which losses, which optimizer.
 *
 * @module
 */
import type { AdamWOptions } from "../training/adamw.ts";
import { randomBits, randomUniform } from "../training/random.ts";

/** What each part of the loss is multiplied with. */
export interface LossWeights {
  /** Of the squared error to noise − latents. */
  readonly diffusion: number;
  /** Of the squared scores of full attention, Σ over blocks. */
  readonly regularization: number;
  /** Of the squared error to the same model's prediction with full attention. */
  readonly distillation: number;
  /** Of the squared errors to its blocks' outputs, Σ over blocks. */
  readonly hidden: number;
}

/** Everything about training but the data and the seed. */
export interface TrainingRecipe extends AdamWOptions {
  /** Samples whose gradients are averaged for one step of the optimizer. */
  readonly accumulate: number;
  /** Largest norm of a step's gradient. */
  readonly clip: number;
  /** Equal parts of the noise levels; the samples of a step share one of them. */
  readonly intervals: number;
  readonly weights: LossWeights;
}

/** The authors', for Wan 2.1. */
export const AUTHORS_RECIPE: TrainingRecipe = {
  lr: 1e-2,
  weightDecay: 0.01,
  accumulate: 4,
  clip: 1,
  intervals: 5,
  weights: { diffusion: 1, regularization: 0.02, distillation: 20, hidden: 0 },
};

/** Noise levels that Wan tells apart. */
export const TIMESTEPS = 1000;

/** What the random numbers are for: so that no two purposes share any. */
const [INTERVAL, TIME, NOISE] = [1, 2, 3];

/**
 * The interval of noise levels that all samples of a step are drawn from.
 *
 * @returns from 0, the noisiest, to `intervals` − 1
 */
export function drawInterval(seed: number, step: number, intervals: number): number {
  return Math.floor(randomUniform(seed, INTERVAL!, step) * intervals);
}

/**
 * A sample's timestep, 1 to 1000: that of flow-match Euler's schedule without shift at a place u that is uniform in the
 * interval. The noise level σ is a thousandth of it.
 *
 * @param batch which of the step's samples
 */
export function drawTimestep(seed: number, step: number, batch: number, interval: number, intervals: number): number {
  const u = (interval + randomUniform(seed, TIME!, step, batch)) / intervals;
  return TIMESTEPS - Math.min(TIMESTEPS - 1, Math.floor(u * TIMESTEPS));
}

/** The seed of a sample's noise. */
export function noiseSeed(seed: number, step: number, batch: number): number {
  return randomBits(seed, NOISE!, step, batch);
}

/**
 * The weights at a timestep. In the last interval of the noise levels, where there is little noise to predict, the
 * diffusion loss is left out and the two losses of distillation count for more: by 1 + 1/n where n of them count.
 * Regularization stays as it is. Where there is no distillation the diffusion loss stays: nothing else would hold the
 * router to the video.
 */
export function lossWeights(weights: LossWeights, timestep: number, intervals: number): LossWeights {
  const { diffusion, distillation, hidden } = weights;
  const others = [distillation, hidden].filter((weight) => weight > 0).length;
  if (timestep >= TIMESTEPS / intervals || diffusion === 0 || others === 0) return weights;
  const factor = 1 + 1 / others;
  return { ...weights, diffusion: 0, distillation: distillation * factor, hidden: hidden * factor };
}
