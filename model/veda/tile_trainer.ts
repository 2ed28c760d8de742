/**
 * Trains a tile scorer on a frozen model (Veda). The model samples clips from prompts with full attention. On the way,
 * every layer's attention teaches the scorer of that layer. A step of the optimizer is a denoising step. With guidance,
 * it learns from one of the step's two passes.
 *
 * All random choices are functions of the seed and the step. A resumed training first samples its current clip again,
 * up to the point of the checkpoint. So it ends with the same bytes as an uninterrupted one.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { readTogether } from "../../gpu/read_together.ts";
import type { TrainingIdentity } from "../training/identity.ts";
import { randomBits, shuffledRounds } from "../training/random.ts";
import { cutLog, logStep } from "../training/step_log.ts";
import { openTrainingFolder, type TrainingFiles, trainingFilesIn } from "../training/training_folder.ts";
import { type Grid, product } from "../attention/grid.ts";
import type { AttentionState, SamplingRuns } from "./sampling_states.ts";
import { HeadGroups, TilePatterns } from "./tile_groups.ts";
import { type LessonFigures, tileLesson } from "./tile_lesson.ts";
import { NonFiniteLayerError, TileParameters, type UpdateOptions } from "./tile_parameters.ts";
import { type TilePlan, uniformPlan } from "./tile_plan.ts";
import { defaultShape } from "./tiling.ts";
import { saveVeda, type Target, type VedaFile } from "./veda_file.ts";

/** What the optimizer is told. */
export interface TileRecipe extends UpdateOptions {
  /** The part of full attention that the scores are to predict. */
  readonly target: Target;
}

/** Defaults that worked for models of all sizes that were tried. */
export const DEFAULT_RECIPE: TileRecipe = { target: "max", lr: 1e-3, weightDecay: 0, average: 0.99 };

/** What is trained, on which data, and where the results go. */
export interface TileTraining {
  readonly gpu: Gpu;
  readonly runs: SamplingRuns;
  readonly recipe: TileRecipe;
  /** The number of tokens of a tile. */
  readonly tileTokens: number;
  /** The shapes, which have that number of tokens. Default: one that suits the grid */
  readonly plan?: TilePlan;
  /** The share of tiles at which agreement with the oracle is measured. It does not affect the training. */
  readonly keep: number;
  /** An integer, of which the low 32 bits are used. */
  readonly seed: number;
  /** The number of optimizer steps, from the start of the training. */
  readonly steps: number;
  /** Created if necessary. It holds the files of {@linkcode tileTrainingFiles}. */
  readonly folder: string;
  /** The number of steps between checkpoints. */
  readonly checkpointEvery: number;
  /** Whether to resume from the folder's checkpoint. */
  readonly resume: boolean;
  /** Anything else that affects the result, such as the model. A checkpoint with another identity is not resumed. */
  readonly identity?: TrainingIdentity;
  /** Called before the first step with the number of steps that are already done. */
  readonly onStart?: (step: number) => void;
  /** Called with the number of denoising steps that are sampled again before training resumes, done and in all. */
  readonly onReplay?: (done: number, total: number) => void;
  /** Called after each step. */
  readonly onStep?: (step: TileTrainingStep) => void;
  /** Ends the training within one step; its state is saved. */
  readonly signal?: AbortSignal;
}

/** The figures of one step, as in `metrics.jsonl`. They are of the scores before the step. */
export interface TileTrainingStep {
  readonly step: number;
  /** KL(teacher ‖ student): mean over query tiles, then heads, then layers. */
  readonly loss: number;
  /** The share of the oracle's tiles, without each row's own, that the scores keep, too. */
  readonly recall: number;
  /** The share of attention in the tiles that the scores keep, and in those that the oracle keeps. */
  readonly kept: number;
  readonly oracle: number;
  /** The loss and the recall of each layer. */
  readonly losses: readonly number[];
  readonly recalls: readonly number[];
  readonly lr: number;
  /** The index of the prompt, and the denoising step and pass of its run. */
  readonly sample: number;
  readonly denoising: number;
  readonly pass: number;
  readonly seconds: number;
}

/** The files of a training folder. */
export function tileTrainingFiles(folder: string): TrainingFiles & { tiles: string } {
  return { ...trainingFilesIn(folder), tiles: `${folder}/tiles.safetensors` };
}

/**
 * Trains a scorer, and writes it with its log and checkpoints.
 *
 * @returns the number of finished steps, smaller than requested if the training was ended early
 * @throws {TilereelError} if the folder does not fit (see `checkTrainingFolder`), its checkpoint is of another
 * training, a file cannot be written, or a number is not finite: then step and layer are named. The last checkpoint
 * stays as it is: what fails within a step leaves some layers ahead of others.
 */
export async function trainTiles(training: TileTraining): Promise<number> {
  const { gpu, runs, recipe, plan, tileTokens, seed, steps, folder, signal } = training;
  const files = tileTrainingFiles(folder);
  await openTrainingFolder(folder, training.resume);
  const identity = { ...training.identity, ...identityOf(training) };
  const start = training.resume
    ? await TileParameters.load(gpu, runs, files.checkpoint, identity)
    : { parameters: TileParameters.random(gpu, runs, seed), step: 0 };
  using parameters = start.parameters;
  if (start.step > steps) {
    throw new TilereelError(
      `${files.checkpoint} has done ${start.step} steps already, more than --steps ${steps}; give a larger --steps`,
    );
  }
  await cutLog(files.log, start.step);
  training.onStart?.(start.step);

  const file: VedaFile = { tileTokens, target: recipe.target, keep: training.keep, ...plan && { plan } };
  using school = new School(training, parameters);
  let step = start.step, saved = training.resume ? step : -1;
  const finite = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw error instanceof NonFiniteLayerError ? notFinite(step, error.layer) : error;
    }
  };
  const save = async () => {
    if (saved !== step) await finite(parameters.save(files.checkpoint, step, identity, file));
    saved = step;
  };
  const runOf = shuffledRounds(runs.count, seed);
  /** The number of steps before the next draw. */
  let before = 0;
  for (let draw = 0; step < steps && !signal?.aborted; draw++) {
    const sample = runOf(draw), length = runs.steps(sample);
    const done = Math.max(0, step - before);
    before += length;
    if (done >= length) continue;
    const ended = new AbortController();
    let begun = performance.now();
    const onState = (state: AttentionState) => {
      if (state.step >= done && state.pass === passOf(training, step + 1, sample)) school.learn(state, step + 1);
    };
    const onStep = async (denoising: number) => {
      if (denoising < done) {
        training.onReplay?.(denoising + 1, done);
      } else {
        const figures = await school.figures(step + 1);
        step++;
        const seconds = Math.round(performance.now() - begun) / 1000;
        const pass = passOf(training, step, sample);
        const line = { step, ...figures, lr: recipe.lr, sample, denoising, pass, seconds };
        await logStep(files.log, line);
        training.onStep?.(line);
        if (step % training.checkpointEvery === 0) await save();
        if (step === steps) ended.abort();
      }
      begun = performance.now();
    };
    try {
      const signals = signal ? [signal, ended.signal] : [ended.signal];
      await runs.sample(sample, { onState, onStep, signal: AbortSignal.any(signals) });
    } catch (error) {
      if (!signals(signal, ended.signal).includes(error)) throw error;
    }
  }
  await save();
  if (step === steps) {
    const metadata = { steps: String(steps), options: JSON.stringify(identity) };
    await saveVeda(files.tiles, { ...file, scorer: await finite(parameters.scorer()) }, metadata);
  }
  return step;
}

/** The abort reasons of signals. */
function signals(...all: readonly (AbortSignal | undefined)[]): unknown[] {
  return all.filter((signal) => signal?.aborted).map((signal) => signal!.reason);
}

/** The pass that a step learns from. */
function passOf({ runs, seed }: TileTraining, step: number, sample: number): number {
  return randomBits(seed, step) % runs.passes(sample);
}

/** The settings that affect the result, without `steps`: a training can be resumed with more steps. */
function identityOf({ runs, recipe, plan, tileTokens, seed }: TileTraining): TrainingIdentity {
  const { target, lr, weightDecay, average } = recipe;
  const lengths = Array.from({ length: runs.count }, (_, run) => `${runs.steps(run)}x${runs.passes(run)}`);
  const digest = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 16);
  return {
    blocks: `${runs.layers} with ${runs.heads} heads of ${runs.headDim}`,
    prompts: runs.count,
    "digest of the sampling steps": digest(lengths.join()),
    seed,
    target,
    "tile-tokens": tileTokens,
    plan: plan ? digest(JSON.stringify([plan.shapes, plan.choices.map((choice) => [...choice])])) : "none",
    lr,
    "weight-decay": weightDecay,
    average,
  };
}

/** The lessons of one step. They are recorded layer by layer, and read when the step is done. */
class School implements Disposable {
  readonly #patterns: TilePatterns;
  readonly #groups = new Map<string, HeadGroups>();
  /** By layer, then by group. */
  #lessons: { readonly figures: LessonFigures; readonly tiles: number; readonly tokens: number }[][] = [];

  constructor(private readonly training: TileTraining, private readonly parameters: TileParameters) {
    const { gpu, runs, keep } = training;
    this.#patterns = new TilePatterns(gpu, runs, keep);
  }

  /** Records the lesson of a layer from a state. */
  learn(state: AttentionState, step: number): void {
    const { gpu, runs, recipe } = this.training;
    const { layer, grid } = state;
    const groups = this.#groupsOf(grid).layers[layer]!;
    gpu.scope(() => {
      const gradients = { q: this.parameters.gradient(), k: this.parameters.gradient() };
      this.#lessons[layer] = groups.map((group) => {
        const pattern = this.#patterns.of(grid, group.shape), projections = this.parameters.projections(layer);
        const figures = tileLesson(gpu, state, runs, pattern, group, projections, recipe.target, gradients);
        gpu.keep(figures.divergence);
        gpu.keep(figures.agreement);
        return { figures, tiles: pattern.tiling.tiles.length, tokens: product(grid) };
      });
      this.parameters.update(layer, gradients, step, recipe);
    });
  }

  /**
   * Reads the results of the step's lessons.
   *
   * @throws {TilereelError} if a loss is not finite
   */
  async figures(step: number) {
    const { gpu, runs: { heads, layers } } = this.training;
    if (Object.keys(this.#lessons).length !== layers) throw new Error(`step ${step} did not show all ${layers} layers`);
    const lessons = this.#lessons, tensors = lessons.flat().flatMap(({ figures }) => Object.values(figures));
    this.#lessons = [];
    const numbers = await readTogether(gpu, tensors);
    for (const tensor of tensors) gpu.release(tensor);
    const losses: number[] = [], recalls: number[] = [];
    let kept = 0, oracle = 0;
    for (const [layer, groups] of lessons.entries()) {
      let loss = 0, both = 0, wanted = 0;
      for (const { tiles, tokens } of groups) {
        const [divergence, agreement] = numbers.splice(0, 2) as [Float32Array, Float32Array];
        loss += divergence.reduce((sum, x) => sum + x / (tiles * heads), 0);
        for (let at = 0; at < agreement.length; at += 4) {
          both += agreement[at]!;
          wanted += agreement[at + 1]!;
          kept += agreement[at + 2]! / (tokens * heads * lessons.length);
          oracle += agreement[at + 3]! / (tokens * heads * lessons.length);
        }
      }
      if (!Number.isFinite(loss)) throw notFinite(step, layer);
      losses.push(loss);
      // If each row keeps only its own tile, nothing can be missed.
      recalls.push(wanted === 0 ? 1 : both / wanted);
    }
    return { loss: mean(losses), recall: mean(recalls), kept, oracle, losses, recalls };
  }

  [Symbol.dispose](): void {
    const { gpu } = this.training;
    for (const { figures } of this.#lessons.flat()) {
      for (const tensor of Object.values(figures)) gpu.release(tensor);
    }
    for (const groups of this.#groups.values()) groups[Symbol.dispose]();
    this.#patterns[Symbol.dispose]();
  }

  #groupsOf(grid: Grid): HeadGroups {
    const { gpu, runs, plan, tileTokens } = this.training;
    const id = plan ? "" : String(grid);
    let groups = this.#groups.get(id);
    if (!groups) {
      groups = new HeadGroups(gpu, plan ?? uniformPlan(defaultShape(grid, tileTokens), runs));
      this.#groups.set(id, groups);
    }
    return groups;
  }
}

function notFinite(step: number, layer: number): TilereelError {
  return new TilereelError(
    `training stopped at step ${step}: a number in layer ${layer} is not finite; train again with a lower --lr, ` +
      `and if that does not help, look at what "tilereel generate" makes of the prompts`,
  );
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0) / numbers.length;
}
