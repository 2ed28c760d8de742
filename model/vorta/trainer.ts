/**
 * Training of a router on a frozen model (VORTA §3.3).
 *
 * Everything random is a function of seed, step and sample, so a run that goes on from a checkpoint ends with the same
 * bytes as one that was never broken off.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { TilereelError } from "../../errors.ts";
import { randn } from "../noise.ts";
import { adamwStep, clipGradients } from "../training/adamw.ts";
import type { TrainingIdentity } from "../training/identity.ts";
import { shuffledRounds } from "../training/random.ts";
import { cutLog, logStep } from "../training/step_log.ts";
import { openTrainingFolder, type TrainingFiles, trainingFilesIn } from "../training/training_folder.ts";
import type { TrainingSample, TrainingSet } from "../training/training_set.ts";
import { type Branch, BRANCHES } from "./branch.ts";
import {
  drawInterval,
  drawTimestep,
  type LossWeights,
  lossWeights,
  noiseSeed,
  TIMESTEPS,
  type TrainingRecipe,
} from "./recipe.ts";
import type { RoutedModel } from "./routed_model.ts";
import { checkRouter, regularization, Router, routes } from "./router.ts";
import { saveRouter } from "./router_file.ts";
import type { VortaSettings } from "./settings.ts";
import { NonFiniteError } from "./training_pass.ts";
import { loadState, saveState, startState, type TrainingState } from "./training_state.ts";

/** What is trained, on what, and where the results go. */
export interface RouterTraining {
  readonly model: RoutedModel;
  readonly data: TrainingSet;
  readonly recipe: TrainingRecipe;
  readonly settings: VortaSettings;
  /** A whole number; its low 32 bits count. */
  readonly seed: number;
  /** Steps of the optimizer, from the start of the training. */
  readonly steps: number;
  /** Threshold at which `shares` are counted; it does not change the training. */
  readonly tau: number;
  /** Is created if need be; holds the files of {@linkcode trainingFiles}. */
  readonly folder: string;
  /** Steps from one checkpoint to the next. */
  readonly checkpointEvery: number;
  /** Whether to go on from the folder's checkpoint. */
  readonly resume: boolean;
  /** What else the result depends on, such as the model; a checkpoint of another identity is not resumed. */
  readonly identity?: TrainingIdentity;
  /** Told before the first step how many are done. */
  readonly onStart?: (step: number) => void;
  /** Told after each step. */
  readonly onStep?: (step: TrainingStep) => void;
  /** Ends the training within a sample's time; the state after the last whole step is saved. */
  readonly signal?: AbortSignal;
}

/** One step in figures, as they stand in `metrics.jsonl`; losses are means over the step's samples. */
export interface TrainingStep {
  readonly step: number;
  /** Weighted sum of the losses. */
  readonly loss: number;
  readonly losses: LossWeights;
  /** The weights of the losses, as means: below the last interval some change. */
  readonly weights: LossWeights;
  /** Norm of the gradient before it was clipped. */
  readonly gradNorm: number;
  readonly lr: number;
  /** The part of heads whose route each branch is. */
  readonly shares: Readonly<Record<Branch, number>>;
  /** Interval of the noise levels, from 0, the noisiest. */
  readonly interval: number;
  readonly timesteps: readonly number[];
  readonly samples: readonly number[];
  readonly seconds: number;
}

/** How training ended. */
export interface TrainingOutcome {
  readonly router: Router;
  /** Steps done, fewer than asked for if it was ended before. */
  readonly step: number;
}

/** The files of a training folder. */
export function trainingFiles(folder: string): TrainingFiles & { router: string } {
  return { ...trainingFilesIn(folder), router: `${folder}/router.safetensors` };
}

/**
 * Trains a router, and writes it with its log and checkpoints.
 *
 * @throws {TilereelError} if the folder does not fit (see `checkTrainingFolder`), its checkpoint is of another
 * training, a file cannot be written, or a number is not finite: then the step and, where it is known, the block are
 * named, and the last checkpoint stays as it is.
 */
export async function trainRouter(training: RouterTraining): Promise<TrainingOutcome> {
  const { model, data, recipe, settings, seed, steps, folder, signal, onStep = () => {} } = training;
  const files = trainingFiles(folder);
  await openTrainingFolder(folder, training.resume);
  const identity = { ...training.identity, ...await identityOf(training) };
  let state = training.resume ? await loadState(files.checkpoint, identity) : startState(Router.random(model, seed));
  checkRouter(state.router, model, files.checkpoint);
  if (state.step > steps) {
    throw new TilereelError(
      `${files.checkpoint} has done ${state.step} steps already, more than --steps ${steps}; give a larger --steps`,
    );
  }
  await cutLog(files.log, state.step);
  training.onStart?.(state.step);

  const sampleOf = shuffledRounds(data.size, seed);
  let saved = training.resume ? state.step : -1;
  const save = async () => {
    if (saved !== state.step) await saveState(files.checkpoint, state, settings, identity);
    saved = state.step;
  };
  while (state.step < steps && !signal?.aborted) {
    const start = performance.now();
    const gradient = state.router.zeros();
    let passes: PassFigures[] | undefined;
    try {
      passes = await takePasses(training, state, sampleOf, gradient);
    } catch (error) {
      if (error instanceof NonFiniteError) throw notFinite(state.step + 1, error);
      // Whatever it was, the steps until now are good. It is what has to be told, even if they cannot be saved.
      await save().catch(() => {});
      throw error;
    }
    if (!passes) break;
    const gradNorm = clipGradients(arraysOf(gradient), recipe.clip);
    state = update(state, gradient, recipe);
    const bad = Number.isFinite(gradNorm) ? firstBad(state.router) : firstBad(gradient);
    if (bad !== undefined) throw notFinite(state.step, new NonFiniteError(bad));
    const done = figuresOf(training, state.step, passes, gradNorm, performance.now() - start);
    await logStep(files.log, done);
    onStep(done);
    if (state.step % training.checkpointEvery === 0) await save();
  }
  await save();
  if (state.step === steps) {
    await saveRouter(files.router, state.router, settings, { steps: String(steps), options: JSON.stringify(identity) });
  }
  return { router: state.router, step: state.step };
}

/** What the result depends on, but `steps`: a training may be gone on with for longer than was first meant. */
async function identityOf({ model, data, recipe, settings, seed }: RouterTraining): Promise<TrainingIdentity> {
  const { weights, lr, weightDecay, accumulate, clip, intervals } = recipe;
  const size = (sizes: readonly number[]) => sizes.join("x");
  const hash = createHash("sha256");
  for (const index of [0, data.size - 1]) {
    const { latents, text } = await data.sample(index);
    for (const { buffer, byteOffset, byteLength } of [latents, text]) {
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
    "diffusion-weight": weights.diffusion,
    "regularization-weight": weights.regularization,
    "distillation-weight": weights.distillation,
    "hidden-weight": weights.hidden,
    tile: size(settings.tile),
    window: size(settings.window),
    bucket: size(settings.bucket),
    rate: settings.rate,
  };
}

/**
 * One step's passes, whose gradients it adds to `gradient`.
 *
 * @returns undefined if training was ended before they were through
 */
async function takePasses(
  training: RouterTraining,
  state: TrainingState,
  sampleOf: (draw: number) => number,
  gradient: Router,
): Promise<PassFigures[] | undefined> {
  const { recipe: { accumulate, intervals }, seed, signal } = training;
  const step = state.step + 1;
  const interval = drawInterval(seed, step, intervals);
  const passes: PassFigures[] = [];
  for (let batch = 0; batch < accumulate; batch++) {
    const index = sampleOf(state.step * accumulate + batch);
    const timestep = drawTimestep(seed, step, batch, interval, intervals);
    passes.push(await takePass(training, state.router, gradient, { step, batch, index, timestep }));
    if (signal?.aborted) return undefined;
  }
  return passes;
}

function figuresOf(
  { recipe, seed, tau }: RouterTraining,
  step: number,
  passes: readonly PassFigures[],
  gradNorm: number,
  milliseconds: number,
): TrainingStep {
  return {
    step,
    loss: mean(passes, ({ losses, weights }) => total(losses, weights)),
    losses: meanWeights(passes, ({ losses }) => losses),
    weights: meanWeights(passes, ({ weights }) => weights),
    gradNorm,
    lr: recipe.lr,
    shares: sharesOf(passes.map(({ scores }) => scores), tau),
    interval: drawInterval(seed, step, recipe.intervals),
    timesteps: passes.map(({ timestep }) => timestep),
    samples: passes.map(({ sample }) => sample),
    seconds: Math.round(milliseconds) / 1000,
  };
}

/** What one sample says. */
interface PassFigures {
  readonly losses: LossWeights;
  readonly weights: LossWeights;
  readonly scores: Float32Array;
  readonly timestep: number;
  readonly sample: number;
}

/** Adds the gradient by one sample, in its share of the step's, to `gradient`. */
async function takePass(
  { model, data, recipe, settings, seed }: RouterTraining,
  router: Router,
  gradient: Router,
  { step, batch, index, timestep }: { step: number; batch: number; index: number; timestep: number },
): Promise<PassFigures> {
  const sample = await data.sample(index);
  const temb = await model.timeEmbedding(timestep);
  const scores = router.scores(temb);
  const weights = lossWeights(recipe.weights, timestep, recipe.intervals);
  const { losses, scoreGradients } = await model.pass({
    ...noised(sample, timestep, noiseSeed(seed, step, batch)),
    textEmbeddings: { data: sample.text, shape: sample.textShape },
    timestep,
    scores,
    settings,
    weights,
  });
  const regular = regularization(scores, model.heads);
  const share = scoreGradients.map((g, i) => (g + weights.regularization * regular.gradients[i]!) / recipe.accumulate);
  router.backward(temb, scores, share, gradient);
  return { losses: { ...losses, regularization: regular.loss }, weights, scores, timestep, sample: index };
}

/** (1 − σ)·latents + σ·noise, and noise − latents. */
function noised({ latents, shape }: TrainingSample, timestep: number, seed: number) {
  const sigma = timestep / TIMESTEPS;
  const noise = randn(latents.length, seed);
  return {
    noisy: { data: latents.map((x, i) => (1 - sigma) * x + sigma * noise[i]!), shape },
    target: { data: latents.map((x, i) => noise[i]! - x), shape },
  };
}

/** Takes the optimizer's step, in place. */
function update(state: TrainingState, gradient: Router, recipe: TrainingRecipe): TrainingState {
  const step = state.step + 1;
  const [means, squares, gradients] = [state.mean, state.square, gradient].map(arraysOf);
  for (const [i, data] of arraysOf(state.router).entries()) {
    adamwStep({ data, gradient: gradients![i]!, mean: means![i]!, square: squares![i]! }, step, recipe);
  }
  return { ...state, step };
}

function arraysOf(router: Router): Float32Array[] {
  return router.layers.flatMap(({ weight, bias }) => [weight, bias]);
}

/** The part of all heads on each route. */
function sharesOf(scores: readonly Float32Array[], tau: number): Record<Branch, number> {
  const taken = scores.flatMap((some) => [...routes(some, tau)]);
  const share = (branch: Branch) => taken.filter((route) => BRANCHES[route] === branch).length / taken.length;
  return { full: share("full"), coreset: share("coreset"), sliding: share("sliding") };
}

/** The first block that has a number which is not finite. */
function firstBad(router: Router): number | undefined {
  const bad = router.layers.findIndex(({ weight, bias }) =>
    !weight.every(Number.isFinite) || !bias.every(Number.isFinite)
  );
  return bad === -1 ? undefined : bad;
}

function notFinite(step: number, cause: NonFiniteError): TilereelError {
  const where = cause.block === undefined ? "outside the blocks" : `in block ${cause.block}`;
  return new TilereelError(
    `training stopped at step ${step}: a number ${where} is not finite; train again with a lower --lr, ` +
      `and if that does not help, look at the data`,
    { cause },
  );
}

function total(losses: LossWeights, weights: LossWeights): number {
  return weights.diffusion * losses.diffusion + weights.regularization * losses.regularization +
    weights.distillation * losses.distillation + weights.hidden * losses.hidden;
}

function mean(passes: readonly PassFigures[], of: (pass: PassFigures) => number): number {
  return passes.reduce((sum, pass) => sum + of(pass), 0) / passes.length;
}

function meanWeights(passes: readonly PassFigures[], of: (pass: PassFigures) => LossWeights): LossWeights {
  return {
    diffusion: mean(passes, (pass) => of(pass).diffusion),
    regularization: mean(passes, (pass) => of(pass).regularization),
    distillation: mean(passes, (pass) => of(pass).distillation),
    hidden: mean(passes, (pass) => of(pass).hidden),
  };
}
