import { createHash } from "node:crypto";
import { checkOptions } from "../../gpu/common/check_options.ts";
import type { TrainingIdentity } from "../training/identity.ts";
import { runTraining, type TrainingState } from "../training/loop.ts";
import { learningRate } from "../training/adamw.ts";
import { randomBits, shuffledRounds } from "../training/random.ts";
import { DEFAULT_KEEP } from "./budget.ts";
import type { AttentionState } from "./sampling_states.ts";
import { ScorerUpdates } from "./scorer_updates.ts";
import { termsOf } from "./scorer.ts";
import { TileParameters } from "./tile_parameters.ts";
import { TILE_RECIPE, TILE_TRAINING_KINDS, type TileTraining, type TileTrainingStep } from "./training_options.ts";
import type { VedaFile } from "./veda_file.ts";
import { saveVeda } from "./save_veda.ts";

/** A training with nothing left open. */
type CompleteTraining = TileTraining & Required<Pick<TileTraining, "recipe" | "seed" | "keep">>;

/** The name of the trained scorer's file in its folder. */
export const TILES_FILE = "tiles.safetensors";

/**
 * Trains a tile scorer on a frozen model (Veda), and writes it with its log and checkpoints. `signal` ends it within
 * one step. The model samples clips from prompts with full attention. On the way, every layer's attention teaches the
 * scorer of that layer. A step of the optimizer is a denoising step. With guidance, it learns from one of the step's
 * two passes.
 *
 * All random choices are functions of the seed and the step. A resumed training first samples its current clip again,
 * up to the point of the checkpoint. So it ends with the same bytes as an uninterrupted one.
 *
 * @returns the number of finished steps, smaller than requested if the training was ended early
 * @throws {TilereelError} as `runTraining` does
 */
export async function trainTiles(training: TileTraining): Promise<number> {
  checkOptions("trainTiles", training, TILE_TRAINING_KINDS, ["gpu", "runs", "tileTokens", "steps", "folder"]);
  const { gpu, runs, recipe = TILE_RECIPE, seed = 0, keep = DEFAULT_KEEP } = training;
  const complete = { ...training, recipe, seed, keep };
  return await runTraining({
    result: TILES_FILE,
    identity: identityOf(complete),
    open: async (checkpoint) =>
      trainingState(
        complete,
        checkpoint ? await TileParameters.load(gpu, runs, checkpoint) : TileParameters.random(gpu, runs, seed),
      ),
  }, training);
}

/** The settings that affect the result. */
function identityOf({ runs, recipe, shapes, tileTokens, seed, keep }: CompleteTraining): TrainingIdentity {
  const { target, loss, lr, weightDecay, average, warmup = 0, beta2, clip } = recipe, terms = termsOf(target);
  const lengths = Array.from({ length: runs.count }, (_, run) => `${runs.steps(run)}x${runs.passes(run)}`);
  const digest = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 16);
  return {
    blocks: `${runs.layers} with ${runs.heads} heads of ${runs.headDim}`,
    prompts: runs.count,
    "digest of the sampling steps": digest(lengths.join()),
    seed,
    target,
    ...loss !== "kl" && { loss },
    ...loss === "retained" && { keep },
    ...terms.second && { "second order": "added" },
    "tile-tokens": tileTokens,
    plan: shapes ? digest(JSON.stringify([shapes.shapes, shapes.choices.map((choice) => [...choice])])) : "none",
    lr,
    "weight-decay": weightDecay,
    ...warmup > 0 && { warmup },
    ...beta2 !== undefined && { beta2 },
    ...clip !== undefined && { clip },
    average,
  };
}

/** A scorer in training, with the runs that it learns from. It takes the parameters over. */
function trainingState(training: CompleteTraining, parameters: TileParameters): TrainingState<TileTrainingStep> {
  const { runs, recipe, seed, tileTokens, keep, shapes, grid, others, onReplay } = training;
  const updates = new ScorerUpdates({ ...training, shape: runs }, parameters);
  const file: VedaFile = { tileTokens, target: recipe.target, keep, ...shapes && { shapes }, ...grid && { grid } };
  return {
    // Some layers are ahead of others when a step fails.
    failsWhole: false,
    async train(done, signal, onStep) {
      const runOf = shuffledRounds(runs.count, seed);
      let step = done, begun = performance.now();
      for (let draw = 0, before = 0;; draw++) {
        signal.throwIfAborted();
        const sample = runOf(draw), length = runs.steps(sample);
        /** The number of steps of this run that were learned from before the training was resumed. */
        const replayed = Math.max(0, done - before);
        before += length;
        if (replayed >= length) continue;
        const passOf = (step: number) => randomBits(seed, step) % runs.passes(sample);
        await runs.sample(sample, {
          signal,
          onState: (state: AttentionState) => {
            if (state.step >= replayed && state.pass === passOf(step + 1)) updates.record(state, step + 1);
          },
          onStep: async (denoising: number) => {
            if (denoising < replayed) {
              onReplay?.(denoising + 1, replayed);
            } else {
              const figures = await updates.figures();
              step++;
              const seconds = Math.round(performance.now() - begun) / 1000;
              await onStep({
                step,
                ...figures,
                lr: learningRate(step, recipe),
                sample,
                denoising,
                pass: passOf(step),
                seconds,
              });
            }
            begun = performance.now();
          },
        });
      }
    },
    saveCheckpoint: (path, metadata) => parameters.save(path, file, metadata),
    saveResult: async (path, metadata) =>
      await saveVeda(
        path,
        { ...file, scorer: await parameters.scorer(recipe.target), ...others && { others } },
        metadata,
      ),
    [Symbol.dispose]() {
      updates[Symbol.dispose]();
      parameters[Symbol.dispose]();
    },
  };
}
