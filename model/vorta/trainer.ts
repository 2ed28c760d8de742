import { createHash } from "node:crypto";
import { checkOptions } from "../../gpu/common/check_options.ts";
import { partsOf } from "../conditioning.ts";
import { randn } from "../noise.ts";
import { clipGradients, learningRate } from "../training/adamw.ts";
import type { TrainingIdentity } from "../training/identity.ts";
import { runTraining, type TrainingState } from "../training/loop.ts";
import { NonFiniteError } from "../training/non_finite_error.ts";
import { shuffledRounds } from "../training/random.ts";
import type { TrainingSample } from "../training/data/training_set.ts";
import { DensityControl, type DensityMeter, meter } from "./density_control.ts";
import { OptimizedRouter, parametersOf } from "./optimized_router.ts";
import { DEFAULT_TAU } from "./methods.ts";
import { AUTHORS_RECIPE, drawInterval, drawTimestep, lossWeights, noiseSeed, TIMESTEPS } from "./recipe.ts";
import { regularization, Router } from "./router.ts";
import { saveRouter } from "./save_router.ts";
import { type RouterTrainingStep, type SampleFigures, stepFigures } from "./training_figures.ts";
import { ROUTER_TRAINING_KINDS, type RouterTraining } from "./training_options.ts";

/** A training with nothing left open. */
type CompleteTraining = RouterTraining & Required<Pick<RouterTraining, "recipe" | "seed" | "tau">>;

/** The name of the trained router's file in its folder. */
export const ROUTER_FILE = "router.safetensors";

/**
 * Trains a router on a frozen model (VORTA §3.3), and writes it with its log and checkpoints. `signal` ends it within
 * one block. All random choices are functions of seed, step and sample. So a training that resumes from a checkpoint
 * ends with the same bytes as an uninterrupted one.
 *
 * @returns the router and the number of finished steps, smaller than requested if the training was ended early
 * @throws {TilereelError} as `runTraining` does
 */
export async function trainRouter(
  training: RouterTraining,
): Promise<{ readonly router: Router; readonly step: number }> {
  checkOptions("trainRouter", training, ROUTER_TRAINING_KINDS, ["model", "data", "settings", "steps", "folder"]);
  const { model, recipe = AUTHORS_RECIPE, seed = 0, tau = DEFAULT_TAU } = training;
  const complete = { ...training, recipe, seed, tau };
  let optimized!: OptimizedRouter;
  const step = await runTraining({
    result: ROUTER_FILE,
    identity: await identityOf(complete),
    open: async (checkpoint) => {
      optimized = checkpoint
        ? await OptimizedRouter.load(checkpoint, model)
        : OptimizedRouter.start(Router.random(model, seed));
      const { density, weights } = recipe;
      const control = density === undefined ? undefined : new DensityControl(density, weights.regularization);
      if (checkpoint) await control?.load(checkpoint);
      return new RouterTrainingState(complete, optimized, control, await meter(model, recipe.shift));
    },
  }, training);
  return { router: optimized.average, step };
}

/** The settings that affect the result. */
async function identityOf({ model, data, recipe, settings, seed }: CompleteTraining): Promise<TrainingIdentity> {
  const { weights, lr, weightDecay, accumulate, clip, intervals, warmup = 0, beta2, average = 0, density, shift = 1 } =
    recipe;
  const size = (sizes: readonly number[]) => sizes.join("x");
  const hash = createHash("sha256");
  for (const index of [0, data.size - 1]) {
    const { latents, conditioning } = await data.sample(index);
    const tensors = Object.values(partsOf(conditioning).tensors).map((tensor) => tensor.data);
    for (const { buffer, byteOffset, byteLength } of [latents, ...tensors]) {
      hash.update(new Uint8Array(buffer, byteOffset, byteLength));
    }
  }
  return {
    blocks: `${model.layers} with ${model.heads} heads on ${model.dim} channels`,
    samples: data.size,
    "data digest": hash.digest("hex").slice(0, 16),
    seed,
    lr,
    "weight-decay": weightDecay,
    accumulate,
    clip,
    intervals,
    // What is off was no option in earlier versions, whose trainings can be resumed.
    ...{ ...warmup > 0 && { warmup }, ...beta2 !== undefined && { beta2 }, ...average > 0 && { average } },
    ...{ ...density !== undefined && { density }, ...shift !== 1 && { "timestep-shift": shift } },
    "diffusion-weight": weights.diffusion,
    "regularization-weight": weights.regularization,
    "distillation-weight": weights.distillation,
    "hidden-weight": weights.hidden,
    ...typeof settings === "function" ? { tile: "of each grid" } : {
      tile: size(settings.tile),
      window: size(settings.window),
      bucket: size(settings.bucket),
      rate: settings.rate,
    },
  };
}

/** A router in training, with its samples. */
class RouterTrainingState implements TrainingState<RouterTrainingStep> {
  readonly failsWhole = true;
  /** From the number of a draw to the index of the sample. */
  readonly #sampleOf: (draw: number) => number;

  constructor(
    private readonly training: CompleteTraining,
    private readonly optimized: OptimizedRouter,
    private readonly control: DensityControl | undefined,
    private readonly densityOf: DensityMeter,
  ) {
    this.#sampleOf = shuffledRounds(training.data.size, training.seed);
  }

  async train(
    done: number,
    signal: AbortSignal,
    onStep: (step: RouterTrainingStep) => Promise<void>,
  ): Promise<void> {
    for (let step = done + 1;; step++) {
      await onStep(await this.#step(step, signal));
      signal.throwIfAborted();
    }
  }

  async #step(step: number, signal: AbortSignal): Promise<RouterTrainingStep> {
    const { optimized, training: { recipe, seed, tau } } = this, start = performance.now();
    const gradient = optimized.router.zeros(), samples: SampleFigures[] = [];
    const interval = drawInterval(seed, step, recipe.intervals);
    for (let batch = 0; batch < recipe.accumulate; batch++) {
      samples.push(await this.#addGradient(gradient, step, batch, interval, signal));
      signal.throwIfAborted();
      if (batch + 1 < recipe.accumulate) this.training.onSample?.(step - 1 + (batch + 1) / recipe.accumulate);
    }
    const gradNorm = clipGradients(parametersOf(gradient), recipe.clip);
    optimized.update(gradient, step, recipe);
    checkFinite(Number.isFinite(gradNorm) ? optimized.router : gradient);
    const density = this.densityOf(optimized.router, tau, samples[0]!.densities);
    this.control?.observe(density);
    const seconds = Math.round(performance.now() - start) / 1000, lr = learningRate(step, recipe);
    return { step, ...stepFigures(samples, tau), density, gradNorm, lr, interval, seconds };
  }

  /** Adds one sample's gradient to `gradient`, weighted by its share of the step. */
  async #addGradient(
    gradient: Router,
    step: number,
    batch: number,
    interval: number,
    signal: AbortSignal,
  ): Promise<SampleFigures> {
    const { optimized: { router }, training: { model, data, recipe, settings, seed } } = this;
    const index = this.#sampleOf((step - 1) * recipe.accumulate + batch);
    const timestep = drawTimestep(seed, step, batch, interval, recipe);
    const sample = await data.sample(index), temb = await model.timeEmbedding(timestep);
    const scores = router.scores(temb);
    const weights = lossWeights(
      { ...recipe.weights, ...this.control && { regularization: this.control.weight } },
      timestep,
      recipe.intervals,
    );
    const { losses, scoreGradients, densities } = await model.pass({
      ...noised(sample, timestep, noiseSeed(seed, step, batch)),
      ...{ conditioning: sample.conditioning, timestep, scores, settings, weights, signal },
    });
    const { loss: regular, gradients } = regularization(scores, model.heads);
    const share = scoreGradients.map((g, i) => (g + weights.regularization * gradients[i]!) / recipe.accumulate);
    router.backward(temb, scores, share, gradient);
    return { losses: { ...losses, regularization: regular }, weights, scores, timestep, densities, sample: index };
  }

  saveCheckpoint(path: string, metadata: Readonly<Record<string, string>>): Promise<void> {
    return this.optimized.save(path, this.training.settings, metadata, this.control?.tensors());
  }

  saveResult(path: string, metadata: Readonly<Record<string, string>>): Promise<void> {
    const { settings, grids = [], others = [], denseShare = 0 } = this.training;
    return saveRouter(path, this.optimized.average, settings, metadata, { grids, others, denseShare });
  }

  /** All of it is in this machine's memory. */
  [Symbol.dispose](): void {}
}

/** (1 − σ)·latents + σ·noise, and noise − latents. */
function noised({ latents, shape }: TrainingSample, timestep: number, seed: number) {
  const sigma = timestep / TIMESTEPS, noise = randn(latents.length, seed);
  return {
    noisy: { data: latents.map((x, i) => (1 - sigma) * x + sigma * noise[i]!), shape },
    target: { data: latents.map((x, i) => noise[i]! - x), shape },
  };
}

/** @throws {NonFiniteError} if a number is not finite */
function checkFinite({ layers }: Router): void {
  const bad = layers.findIndex(({ weight, bias }) => !weight.every(Number.isFinite) || !bias.every(Number.isFinite));
  if (bad >= 0) throw new NonFiniteError(bad);
}
