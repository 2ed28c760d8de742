import type { LoggedStep } from "../training/step_log.ts";
import { type Branch, BRANCHES } from "./branch.ts";
import type { LossWeights } from "./recipe.ts";
import { routes } from "./router.ts";

/** The figures of one step, as in `metrics.jsonl`. Losses are means over the step's samples. */
export interface RouterTrainingStep extends LoggedStep {
  /** The weighted sum of the losses. */
  readonly loss: number;
  readonly losses: LossWeights;
  /** The mean weights of the losses. Some change in the last interval of the noise levels. */
  readonly weights: LossWeights;
  /** The norm of the gradient before clipping. */
  readonly gradNorm: number;
  readonly lr: number;
  /** The share of pairs of queries and keys that the router keeps after the step, over all noise levels. */
  readonly density: number;
  /** The share of heads on each branch. */
  readonly shares: Readonly<Record<Branch, number>>;
  /** The interval of the noise levels, from 0, the noisiest. */
  readonly interval: number;
  readonly timesteps: readonly number[];
  readonly samples: readonly number[];
  readonly seconds: number;
}

/** The figures of one sample. */
export interface SampleFigures {
  readonly losses: LossWeights;
  /** The weights of the losses at its timestep. */
  readonly weights: LossWeights;
  /** [layers, heads, 3] */
  readonly scores: Float32Array;
  readonly timestep: number;
  /** The share of the pairs of each branch, for its size. */
  readonly densities: Readonly<Record<Branch, number>>;
  /** Its index in the training set. */
  readonly sample: number;
}

/** The figures of a step from those of its samples. `tau` is the threshold at which shares are counted. */
export function stepFigures(
  samples: readonly SampleFigures[],
  tau: number,
): Pick<RouterTrainingStep, "loss" | "losses" | "weights" | "shares" | "timesteps" | "samples"> {
  return {
    loss: mean(samples, ({ losses, weights }) => LOSSES.reduce((sum, loss) => sum + weights[loss] * losses[loss], 0)),
    losses: meanOfEach(samples.map(({ losses }) => losses)),
    weights: meanOfEach(samples.map(({ weights }) => weights)),
    shares: branchShares(samples.flatMap(({ scores }) => [...routes(scores, tau)])),
    timesteps: samples.map(({ timestep }) => timestep),
    samples: samples.map(({ sample }) => sample),
  };
}

/** The share of heads on each branch, from the branches that heads take, as indices into {@linkcode BRANCHES}. */
export function branchShares(taken: readonly number[]): Record<Branch, number> {
  const share = (branch: number) => taken.filter((route) => route === branch).length / taken.length;
  return Object.fromEntries(BRANCHES.map((name, branch) => [name, share(branch)])) as Record<Branch, number>;
}

const LOSSES = ["diffusion", "regularization", "distillation", "hidden"] as const;

function mean<T>(samples: readonly T[], of: (sample: T) => number): number {
  return samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
}

function meanOfEach(all: readonly LossWeights[]): LossWeights {
  return Object.fromEntries(LOSSES.map((loss) => [loss, mean(all, (one) => one[loss])])) as unknown as LossWeights;
}
