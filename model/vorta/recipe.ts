import { flowShift } from "../schedulers/sigmas.ts";
import type { AdamWOptions } from "../training/adamw.ts";
import { randomBits, randomUniform } from "../training/random.ts";

/** The weight of each part of the loss. */
export interface LossWeights {
  /** For the squared error to noise − latents. */
  readonly diffusion: number;
  /** For the squared scores of full attention, Σ over blocks. */
  readonly regularization: number;
  /** For the squared error to the same model's prediction with full attention. */
  readonly distillation: number;
  /** For the squared errors to the outputs of its blocks, Σ over blocks. */
  readonly hidden: number;
}

/** How a router is trained: all settings except the data and the seed. */
export interface TrainingRecipe extends AdamWOptions {
  /** The number of samples whose gradients are averaged for one optimizer step. */
  readonly accumulate: number;
  /** The largest norm of a step's gradient. */
  readonly clip: number;
  /** The number of equal parts of the noise levels. All samples of a step are in one of them. */
  readonly intervals: number;
  /** The shift of the noise levels, as that of a sampler: with more than 1, more of them are noisy. Default: 1 */
  readonly shift?: number;
  readonly weights: LossWeights;
  /** The factor by which a step keeps the moving averages of the parameters, which are then the result. Default: 0 */
  readonly average?: number;
  /**
   * The share of pairs of queries and keys that is aimed at. The weight of regularization is then only where the search for
   * the right one starts; see `density_control.ts`. Default: the weight stays as it is
   */
  readonly density?: number;
}

/** The authors' recipe, the same for Wan 2.1 and HunyuanVideo. */
export const AUTHORS_RECIPE: TrainingRecipe = {
  lr: 1e-2,
  weightDecay: 0.01,
  accumulate: 4,
  clip: 1,
  intervals: 5,
  weights: { diffusion: 1, regularization: 0.02, distillation: 20, hidden: 0 },
};

/** The number of noise levels that training draws from, as the authors' does for all models. */
export const TIMESTEPS = 1000;

/** The scale of guidance in training: no second pass, and what a model that embeds the scale is told. */
export const TRAINING_GUIDANCE = 1;

/** The purposes of random numbers, so that no two purposes share any. */
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
 * A sample's timestep, from 1 to 1000. It is that of flow-match Euler's schedule at a position u that is uniform in the
 * interval. The noise level σ is a thousandth of it.
 *
 * @param batch the index of the sample in the step
 */
export function drawTimestep(
  seed: number,
  step: number,
  batch: number,
  interval: number,
  { intervals, shift = 1 }: Pick<TrainingRecipe, "intervals" | "shift">,
): number {
  const at = (interval + randomUniform(seed, TIME!, step, batch)) / intervals;
  const u = shift === 1 ? at : 1 - flowShift(1 - at, shift);
  return TIMESTEPS - Math.min(TIMESTEPS - 1, Math.floor(u * TIMESTEPS));
}

/** The seed for a sample's noise. */
export function noiseSeed(seed: number, step: number, batch: number): number {
  return randomBits(seed, NOISE!, step, batch);
}

/**
 * The weights at a timestep. In the last of equal intervals of the noise levels, whatever their shift, there is little
 * noise to predict. There the diffusion loss is left out, and the two distillation losses are multiplied by 1 + 1/n,
 * where n of them are on.
 * Regularization does not change. Without distillation the diffusion loss stays, because nothing else would tie the
 * router to the video.
 */
export function lossWeights(weights: LossWeights, timestep: number, intervals: number): LossWeights {
  const { diffusion, distillation, hidden } = weights;
  const others = [distillation, hidden].filter((weight) => weight > 0).length;
  if (timestep >= TIMESTEPS / intervals || diffusion === 0 || others === 0) return weights;
  const factor = 1 + 1 / others;
  return { ...weights, diffusion: 0, distillation: distillation * factor, hidden: hidden * factor };
}
