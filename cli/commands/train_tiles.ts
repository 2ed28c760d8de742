/**
 * `tilereel train tiles`: Veda's scores of tiles, trained on a frozen model.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { checkTrainingFolder, trainingFiles } from "../../model/training/training_folder.ts";
import { DEFAULT_KEEP } from "../../model/veda/budget.ts";
import type { TilePlan } from "../../model/veda/tile_plan.ts";
import { DEFAULT_RECIPE, TILES_FILE, type TileTrainingStep, trainTiles } from "../../model/veda/tile_trainer.ts";
import { defaultCapacity } from "../../model/veda/tiling.ts";
import { loadVeda } from "../../model/veda/veda_file.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { commandLine, openLongRun } from "../../tools/program/long_run.ts";
import { choice, flag, integer, number, type OptionValues, path } from "../../tools/program/options.ts";
import { checkWritable } from "../../model/files/output.ts";
import { formatDuration } from "../../tools/program/progress.ts";
import {
  openSamplingRuns,
  planSampling,
  samplingIdentity,
  samplingOptions,
} from "../../tools/program/sampling_options.ts";
import { TrainingLog, type Trend, trendText } from "../training/log_summary.ts";
import { lineOf, sharedOptions } from "../training/next_commands.ts";
import { tilesVerdict } from "../training/tiles/verdict.ts";
import { percent, verdictText } from "../training/verdict.ts";
import { checkpointOptions } from "../../tools/program/training_options.ts";

const TILES = "Tiles";
const TRAINING = "Training";
const OUTPUT = "Output";
const DEFAULT_OUT = "out/tiles";
const DEFAULT_STEPS = 500, DEFAULT_EVERY = 100;

const { prompts, size, frames, seed, ...rest } = samplingOptions;
const options = {
  prompts,
  size,
  frames,
  seed,
  target: choice({
    group: TILES,
    of: ["max", "sum"],
    help: "What the scores learn of full attention: the largest attention from a token of one tile to a token of " +
      "another, or the sum of it.",
    elsewhere: ["teacher"],
    default: DEFAULT_RECIPE.target,
  }),
  "tile-tokens": integer({
    group: TILES,
    value: "N",
    help: "Tokens of a tile.",
    elsewhere: ["tile-size", "block-size"],
    default: "the plan's, or 128, or less on small clips",
    min: 1,
  }),
  plan: path({
    group: TILES,
    value: "FILE",
    help: 'A shape for every head, as "tilereel search tiles" makes it; goes into the result.',
    elsewhere: ["tile-plan", "tiles"],
    default: "one shape for all",
  }),
  keep: number({
    group: TILES,
    value: "X",
    help: "Share of tiles at which recall and kept attention are shown. It does not change the training.",
    elsewhere: ["keep-ratio", "density"],
    default: String(DEFAULT_KEEP),
    above: 0,
    max: 1,
  }),
  steps: integer({
    group: TRAINING,
    value: "N",
    help: "Steps of the optimizer: one each denoising step that the model takes.",
    elsewhere: ["max-train-steps", "num-steps"],
    default: String(DEFAULT_STEPS),
    min: 1,
  }),
  lr: number({
    group: TRAINING,
    value: "X",
    help: "Learning rate.",
    elsewhere: ["learning-rate"],
    default: String(DEFAULT_RECIPE.lr),
    above: 0,
  }),
  "weight-decay": number({
    group: TRAINING,
    value: "X",
    help: "AdamW's weight decay.",
    default: String(DEFAULT_RECIPE.weightDecay),
    min: 0,
  }),
  average: number({
    group: TRAINING,
    value: "X",
    help: "What a step leaves of the moving averages of the weights, which are what is saved.",
    elsewhere: ["ema", "ema-decay"],
    default: String(DEFAULT_RECIPE.average),
    min: 0,
    max: 1,
  }),
  ...rest,
  out: path({
    group: OUTPUT,
    short: "o",
    value: "DIR",
    help: "Folder of tiles.safetensors, checkpoint.safetensors and metrics.jsonl (one line a step).",
    elsewhere: ["output", "exp-dir", "output-dir"],
    default: DEFAULT_OUT,
  }),
  ...checkpointOptions(OUTPUT, DEFAULT_EVERY),
  json: flag({ group: OUTPUT, help: "Print one JSON object at the end, with the verdict, and nothing else." }),
  quiet: flag({ group: OUTPUT, short: "q", help: "Print nothing but errors." }),
};

/** The command `tilereel train tiles`. */
export const command = defineCommand({
  name: "train tiles",
  description:
    "Trains Veda's scores: for every head, which tiles of a clip matter to which, as full attention has it. The model " +
    "stays as it is, and learns from clips that it samples itself.",
  positionals: "",
  maxPositionals: 0,
  options,
  notes: "Ctrl-C saves the training; --resume continues it.",
  examples: [
    { line: "tilereel train tiles --prompts prompts.txt", does: "Scores for the embedded demo model." },
    {
      line: "tilereel train tiles --prompts prompts.txt --model Wan2.1-T2V-1.3B-Diffusers --size 832x480 --frames 81 " +
        "--plan plan.safetensors --out wan",
      does: "Scores for real Wan weights, with the shapes that were searched for.",
    },
    { line: "tilereel train tiles --prompts prompts.txt --out wan --resume", does: "Continues after Ctrl-C." },
  ],
  run,
});

type Values = OptionValues<typeof options>;

async function run(values: Values): Promise<number> {
  const { out = DEFAULT_OUT, quiet = false, json = false, resume = false } = values;
  const { steps = DEFAULT_STEPS, keep = DEFAULT_KEEP } = values;
  await checkTrainingFolder(out, resume);
  const sampling = await planSampling(values);
  const { plan, tileTokens = values["tile-tokens"] ?? defaultCapacity(sampling.grid) } = await planOf(values);
  const files = trainingFiles(out, TILES_FILE);
  for (const file of Object.values(files)) await checkWritable(file, { asFile: true });
  const identity = await samplingIdentity(sampling);
  using work = await openLongRun({
    quiet: quiet || json,
    values,
    stopping: "Stopping after this step; Ctrl-C again stops at once, back to the last checkpoint.",
  });
  const { gpu, onProgress, say, signal } = work;
  using open = await openSamplingRuns(work, sampling);
  const start = performance.now();
  const done = await trainTiles({
    gpu,
    runs: open.runs,
    recipe: {
      target: values.target ?? DEFAULT_RECIPE.target,
      lr: values.lr ?? DEFAULT_RECIPE.lr,
      weightDecay: values["weight-decay"] ?? DEFAULT_RECIPE.weightDecay,
      average: values.average ?? DEFAULT_RECIPE.average,
    },
    tileTokens,
    ...plan && { plan },
    keep,
    seed: values.seed ?? 0,
    steps,
    folder: out,
    checkpointEvery: values["checkpoint-every"] ?? DEFAULT_EVERY,
    resume,
    identity,
    onStart: (step) => onProgress({ stage: "train", done: step, total: steps }),
    onReplay: (replayed, total) => onProgress({ stage: "sample again", done: replayed, total }),
    onStep: (step) => onProgress({ stage: "train", done: step.step, total: steps, detail: figures(step) }),
    signal,
  });
  if (done < steps) {
    const next = [commandLine(true)];
    say(`Stopped after ${done} of ${steps} steps, which ${files.checkpoint} holds. Continue with:\n  ${next}`);
    if (json) console.log(JSON.stringify({ out, stopped: true, step: done, steps, next }));
    return work.status ?? 1;
  }
  const seconds = (performance.now() - start) / 1000;
  const logged = await TrainingLog.read<TileTrainingStep>(files.log);
  const trend = {
    loss: logged.trend(({ loss }) => loss),
    recall: logged.trend(({ recall }) => recall),
    kept: logged.trend(({ kept }) => kept),
    oracle: logged.trend(({ oracle }) => oracle),
  };
  const verdict = tilesVerdict({ steps, keep, planned: plan !== undefined, ...trend });
  const next = nextCommands(values, sampling.clips[0]!.prompt, files.result);
  if (json) {
    const { loss, recall, kept, oracle } = trend;
    const about = { tiles: files.result, steps, seconds, window: logged.window, keep, loss, recall, kept, oracle };
    console.log(JSON.stringify({ ...about, verdict, next }));
    return 0;
  }
  say([
    `${files.result}: ${steps} steps in ${formatDuration(seconds)}`,
    `KL ${trendText(trend.loss)}, recall ${trendOfShares(trend.recall)}, attention in the picked tiles ${
      trendOfShares(trend.kept)
    } (the oracle's: ${percent(trend.oracle.last)}) at keep ${keep}: means of the first and the last ${
      logged.window === 1 ? "step" : `${logged.window} steps`
    }.`,
    verdictText(verdict),
    `See it beside full attention, then use it:\n${next.map((line) => `  ${line}`).join("\n")}`,
  ].join("\n"));
  return 0;
}

/** Comparing the scores with full attention on the first prompt, and rendering with them. */
function nextCommands({ keep }: Values, prompt: string, tiles: string): string[] {
  const words = [prompt, ...sharedOptions(options)];
  const setting = ["veda", `tiles=${/\s/.test(tiles) ? `"${tiles}"` : tiles}`];
  if (keep !== undefined) setting.push(`keep=${keep}`);
  return [
    lineOf("compare", ...words, "--setting", "full", "--setting", setting.join(" ")),
    lineOf("generate", ...words, "--tiles", tiles, ...keep === undefined ? [] : ["--keep", String(keep)]),
  ];
}

/** @throws {TilereelError} if the file has no plan, or one of other tiles */
async function planOf(values: Values): Promise<{ plan?: TilePlan; tileTokens?: number }> {
  const { plan: file, "tile-tokens": asked } = values;
  if (file === undefined) return {};
  const { plan, tileTokens } = await loadVeda(file);
  if (!plan) throw new TilereelError(`${file} has no plan of shapes; make one with "tilereel search tiles"`);
  if (asked !== undefined && asked !== tileTokens) {
    throw new TilereelError(`--tile-tokens is ${asked}, but the tiles of ${file} have ${tileTokens}: leave it out`);
  }
  return { plan, tileTokens };
}

function trendOfShares({ first, last }: Trend): string {
  return `${percent(first)} → ${percent(last)}`;
}

/** `KL 0.512  recall 61%  kept 83% of attention, the oracle 88%` */
function figures({ loss, recall, kept, oracle }: TileTrainingStep): string {
  return `KL ${loss.toPrecision(3)}  recall ${percent(recall)}  kept ${percent(kept)} of attention, the oracle ${
    percent(oracle)
  }`;
}
