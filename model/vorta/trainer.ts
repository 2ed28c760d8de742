/**
 * Trains a router on a frozen model (VORTA §3.3).
 *
 * All random choices are functions of seed, step and sample. So a training that resumes from a checkpoint ends with the
 * same bytes as an uninterrupted one.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { TilereelError } from "../../gpu/common/errors.ts";
import { randn } from "../noise.ts";
import { adamwStep, clipGradients } from "../training/adamw.ts";
import type { TrainingIdentity } from "../training/identity.ts";
import { shuffledRounds } from "../training/random.ts";
import { cutLog, logStep } from "../training/step_log.ts";
import { openTrainingFolder, type TrainingFiles, trainingFilesIn } from "../training/training_folder.ts";
import type { TrainingSample, TrainingSet } from "../training/data/training_set.ts";
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

/** What is trained, on which data, and where the results go. */
export interface RouterTraining {
  readonly model: RoutedModel;
  readonly data: TrainingSet;
  readonly recipe: TrainingRecipe;
  readonly settings: VortaSettings;
  /** An integer, of which the low 32 bits are used. */
  readonly seed: number;
  /** The number of optimizer steps, from the start of the training. */
  readonly steps: number;
  /** The threshold at which `shares` are counted. It does not affect the training. */
  readonly tau: number;
  /** Created if necessary. It holds the files of {@linkcode trainingFiles}. */
  readonly folder: string;
  /** The number of steps between checkpoints. */
  readonly checkpointEvery: number;
  /** Whether to resume from the folder's checkpoint. */
  readonly resume: boolean;
  /** Anything else that affects the result, such as the model. A checkpoint with another identity is not resumed. */
  readonly identity?: TrainingIdentity;
  /** Called before the first step with the number of steps that are already done. */
  readonly onStart?: (step: number) => void;
  /** Called after each step. */
  readonly onStep?: (step: TrainingStep) => void;
  /** Ends the training within one sample. The state after the last whole step is saved. */
  readonly signal?: AbortSignal;
}

/** The figures of one step, as in `metrics.jsonl`. Losses are means over the step's samples. */
export interface TrainingStep {
  readonly step: number;
  /** The weighted sum of the losses. */
  readonly loss: number;
  readonly losses: LossWeights;
  /** The mean weights of the losses. Some change in the last interval of the noise levels. */
  readonly weights: LossWeights;
  /** The norm of the gradient before clipping. */
  readonly gradNorm: number;
  readonly lr: number;
  /** The share of heads on each branch. */
  readonly shares: Readonly<Record<Branch, number>>;
  /** The interval of the noise levels, from 0, the noisiest. */
  readonly interval: number;
  readonly timesteps: readonly number[];
  readonly samples: readonly number[];
  readonly seconds: number;
}

/** The result of a training. */
export interface TrainingOutcome {
  readonly router: Router;
  /** The number of finished steps, smaller than requested if the training was ended early. */
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
      // Whatever the error is, the steps until now are good, so they are saved. It is thrown even if they cannot be
      // saved.
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

/** The settings that affect the result, without `steps`: a training can be resumed with more steps. */
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
 * Runs one step's passes and adds their gradients to `gradient`.
 *
 * @returns undefined if training was ended before they were finished
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

/** The figures of one sample. */
interface PassFigures {
  readonly losses: LossWeights;
  readonly weights: LossWeights;
  readonly scores: Float32Array;
  readonly timestep: number;
  readonly sample: number;
}

/** Adds one sample's gradient to `gradient`, weighted by its share of the step. */
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

/** Takes the optimizer step, in place. */
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

/** The share of all heads on each route. */
function sharesOf(scores: readonly Float32Array[], tau: number): Record<Branch, number> {
  const taken = scores.flatMap((some) => [...routes(some, tau)]);
  const share = (branch: Branch) => taken.filter((route) => BRANCHES[route] === branch).length / taken.length;
  return { full: share("full"), coreset: share("coreset"), sliding: share("sliding") };
}

/** The first block that has a number that is not finite. */
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
