/**
 * `tilereel train router`: VORTA's routers, trained on a frozen model.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { type ModelFolder, openModelFolder } from "../../model/checkpoint/model_folder.ts";
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import type { AttentionTask } from "../../model/attention/method.ts";
import type { AttentionReport } from "../../model/attention/report.ts";
import type { OnProgress } from "../../model/progress.ts";
import type { TrainingIdentity } from "../../model/training/identity.ts";
import type { TrainingSet } from "../../model/training/data/training_set.ts";
import { modelDigest } from "../../model/identity/digest.ts";
import { checkTrainingFolder, trainingFiles } from "../../model/training/training_folder.ts";
import { type Branch, BRANCHES } from "../../model/vorta/branch.ts";
import { routedAttention, type RoutedAttentionOptions } from "../../model/vorta/methods.ts";
import { AUTHORS_RECIPE, type TrainingRecipe } from "../../model/vorta/recipe.ts";
import { routedModel } from "../../model/vorta/routed_model.ts";
import { FRAME_MULTIPLE, SIZE_MULTIPLE } from "../../model/video_size.ts";
import { defaultSettings, type VortaSettings } from "../../model/vorta/settings.ts";
import { ROUTER_FILE, trainRouter } from "../../model/vorta/trainer.ts";
import { branchShares, type RouterTrainingStep } from "../../model/vorta/training_figures.ts";
import { readTransformerConfig } from "../../model/wan/config.ts";
import type { Grid } from "../../model/attention/grid.ts";
import { WanTransformer3DModel } from "../../model/wan/transformer.ts";
import { clipOptions, type ClipValues } from "../../tools/program/clip/clip_options.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { commandLine, type LongRun, openLongRun } from "../../tools/program/long_run.ts";
import { flag, integer, number, type OptionValues, path } from "../../tools/program/options.ts";
import { checkWritable } from "../../model/files/output.ts";
import { formatDuration } from "../../tools/program/progress.ts";
import { readPrompts } from "../../tools/program/clip/prompts_file.ts";
import { TrainingLog, trendText } from "../training/log_summary.ts";
import { lineOf, sharedOptions } from "../training/next_commands.ts";
import { routerVerdict } from "../training/router/verdict.ts";
import { percent, verdictText } from "../training/verdict.ts";
import { findClips } from "../../model/training/data/clip_folder.ts";
import { clipShape } from "../../tools/program/clip/clip_settings.ts";
import { clipsOfPrompts } from "../../tools/program/clip/clips_of_prompts.ts";
import { captionedClips } from "../../model/training/data/captioned_clips.ts";
import { encodedSet } from "../../model/training/data/encoded_set.ts";
import { LatentCache } from "../../model/training/data/latent_cache.ts";
import { sampledSet } from "../../model/training/data/sampled_set.ts";
import { checkpointOptions, trainedModelOptions } from "../../tools/program/training_options.ts";
import { sizesText, vortaOptions, vortaSettings } from "../../tools/program/clip/vorta_options.ts";
import { castIdentity, type WeightDtypeChoice } from "../../model/weight_dtype.ts";

const DATA = "Data (one of --prompts and --data)";
const SAMPLING = "How clips are made of --prompts";
const TRAINING = "Training";
const LOSS = "Loss";
const OUTPUT = "Output";
const DEFAULT_OUT = "out/router";
const DEFAULT_STEPS = 100, DEFAULT_SEED = 0, DEFAULT_TAU = 0.3, DEFAULT_EVERY = 10;
const LARGEST_SEED = 2 ** 32 - 1;

const { weights } = AUTHORS_RECIPE;
const weight = (help: string, value: number, elsewhere: readonly string[]) =>
  number({ group: LOSS, value: "X", help, elsewhere, default: String(value), min: 0 });

const options = {
  prompts: path({
    group: DATA,
    short: "p",
    value: "FILE",
    help: "Train without a data set: on clips that the model makes of these prompts, one a line, or JSON objects as " +
      '"tilereel generate --prompts" takes them.',
  }),
  data: path({
    group: DATA,
    short: "d",
    value: "DIR",
    help: "Train on clips: videos or folders of frames, each with its caption beside it (cat.mp4 and cat.txt), or " +
      'listed in metadata.jsonl as {"file": "cat.mp4", "caption": "a cat"}.',
    elsewhere: ["data-dir", "data-json-file", "dataset"],
  }),
  size: { ...clipOptions.size, group: DATA },
  frames: { ...clipOptions.frames, group: DATA },
  fps: { ...clipOptions.fps, group: DATA, help: "Frames a second that clips of --data are taken at." },
  cache: path({
    group: DATA,
    value: "DIR",
    help: "Where latents are kept once they are made. Trainings can share it.",
    default: "out/latents",
  }),
  "sampling-steps": integer({
    group: SAMPLING,
    value: "N",
    help: "Denoising steps.",
    elsewhere: ["num-inference-steps"],
    default: "the model's",
    min: 1,
    max: 1000,
  }),
  guidance: { ...clipOptions.guidance, group: SAMPLING },
  negative: { ...clipOptions.negative, group: SAMPLING },
  scheduler: { ...clipOptions.scheduler, group: SAMPLING },
  sigmas: { ...clipOptions.sigmas, group: SAMPLING },
  "flow-shift": { ...clipOptions["flow-shift"], group: SAMPLING },
  steps: integer({
    group: TRAINING,
    value: "N",
    help: "Steps of the optimizer.",
    elsewhere: ["max-train-steps", "num-steps"],
    default: String(DEFAULT_STEPS),
    min: 1,
  }),
  lr: number({
    group: TRAINING,
    value: "X",
    help: "Learning rate.",
    elsewhere: ["learning-rate"],
    default: String(AUTHORS_RECIPE.lr),
    above: 0,
  }),
  "weight-decay": number({
    group: TRAINING,
    value: "X",
    help: "AdamW's weight decay.",
    default: String(AUTHORS_RECIPE.weightDecay),
    min: 0,
  }),
  accumulate: integer({
    group: TRAINING,
    value: "N",
    help: "Samples a step.",
    elsewhere: ["gradient-accumulation-steps", "batch-size"],
    default: String(AUTHORS_RECIPE.accumulate),
    min: 1,
  }),
  clip: number({
    group: TRAINING,
    value: "X",
    help: "Largest norm of a step's gradient.",
    elsewhere: ["max-grad-norm", "grad-clip"],
    default: String(AUTHORS_RECIPE.clip),
    above: 0,
  }),
  intervals: integer({
    group: TRAINING,
    value: "N",
    help: "Equal parts of the noise levels: the samples of a step come from one of them, and in the last, the least " +
      "noisy, the diffusion loss is left out.",
    elsewhere: ["t-num-intervals"],
    default: String(AUTHORS_RECIPE.intervals),
    min: 1,
    max: 1000,
  }),
  seed: integer({
    group: TRAINING,
    value: "N",
    help: "Start of everything random. The same seed on the same adapter gives the same router.",
    default: String(DEFAULT_SEED),
    min: 0,
    max: LARGEST_SEED,
  }),
  "diffusion-weight": weight("Weight of the squared error to the velocity.", weights.diffusion, [
    "diffusion-loss-weight",
  ]),
  "regularization-weight": weight(
    "Weight of the squared scores of full attention: more makes more heads sparse.",
    weights.regularization,
    ["reg-loss-weight"],
  ),
  "distillation-weight": weight(
    "Weight of the squared error to the model's own prediction with full attention.",
    weights.distillation,
    ["last-layer-distill-loss-weight"],
  ),
  "hidden-weight": weight("Weight of the same error after every block.", weights.hidden, [
    "hidden-layer-distill-loss-weight",
  ]),
  ...vortaOptions,
  out: path({
    group: OUTPUT,
    short: "o",
    value: "DIR",
    help: "Folder of router.safetensors, checkpoint.safetensors and metrics.jsonl (one line a step).",
    elsewhere: ["output", "exp-dir", "output-dir"],
    default: DEFAULT_OUT,
  }),
  ...checkpointOptions(OUTPUT, DEFAULT_EVERY),
  tau: number({
    group: OUTPUT,
    value: "X",
    help: "Count a head as full whose best score is below this, in the shares that are shown.",
    elsewhere: ["tau-sparse"],
    default: String(DEFAULT_TAU),
    min: 0,
    max: 1,
  }),
  json: flag({ group: OUTPUT, help: "Print one JSON object at the end, with the verdict, and nothing else." }),
  quiet: flag({ group: OUTPUT, short: "q", help: "Print nothing but errors." }),
  ...trainedModelOptions,
};

/** The command `tilereel train router`. */
export const command = defineCommand({
  name: "train router",
  description:
    "Trains VORTA's routers: for every head and noise level, whether it needs full attention, or core-set or " +
    "sliding-tile attention does. The model stays as it is. The defaults are the authors' recipe.",
  positionals: "",
  maxPositionals: 0,
  options,
  notes: "Latents of all clips are made first and kept in --cache. Ctrl-C saves the training; --resume continues it.",
  examples: [
    {
      line: "tilereel train router --prompts prompts.txt",
      does: "A router for the embedded demo model.",
    },
    {
      line: "tilereel train router --data clips --model Wan2.1-T2V-1.3B-Diffusers --size 832x480 --frames 77 --out wan",
      does: "A router for real Wan weights, on one's own clips.",
    },
    { line: "tilereel train router --prompts prompts.txt --out wan --resume", does: "Continues after Ctrl-C." },
  ],
  run,
});

type Values = OptionValues<typeof options>;

async function run(values: Values): Promise<number> {
  checkData(values);
  const { out = DEFAULT_OUT, seed = DEFAULT_SEED, quiet = false, json = false, resume = false } = values;
  await checkTrainingFolder(out, resume);
  for (const file of Object.values(trainingFiles(out, ROUTER_FILE))) await checkWritable(file, { asFile: true });
  const model = values.model ?? embeddedModelDir();
  const folder = await openModelFolder(model);
  const settings = vortaSettings(values, defaultSettings(clipGrid(values, folder)));
  using work = await openLongRun({
    quiet: quiet || json,
    values,
    stopping: "Stopping after this sample; Ctrl-C again stops at once, back to the last checkpoint.",
  });
  const { gpu, onProgress, say, signal } = work;
  using cleanUp = new DisposableStack();
  let data;
  try {
    data = await openData(values, work, folder);
  } catch (error) {
    if (work.status === undefined || error !== signal.reason) throw error;
    const next = [commandLine(resume)];
    say(`Stopped while samples were made; those that are finished are kept. Continue with:\n  ${next}`);
    if (json) console.log(JSON.stringify({ out, stopped: true, step: 0, steps: values.steps ?? DEFAULT_STEPS, next }));
    return work.status;
  }
  const transformer = await loadTransformer(gpu, folder, values["weight-dtype"], onProgress);
  cleanUp.defer(() => transformer.release());
  const note = coarseNote(transformer.gridOf((await data.sample(0)).shape), settings);
  if (note !== undefined) say(note);

  const { steps = DEFAULT_STEPS, tau = DEFAULT_TAU } = values;
  const start = performance.now();
  const outcome = await trainRouter({
    model: routedModel(gpu, transformer),
    data,
    recipe: recipeOf(values),
    settings,
    seed,
    steps,
    tau,
    folder: out,
    checkpointEvery: values["checkpoint-every"] ?? DEFAULT_EVERY,
    resume,
    identity: await identityOf(values, folder, data),
    onStart: (step) => onProgress({ stage: "train", done: step, total: steps }),
    onStep: (step) => onProgress({ stage: "train", done: step.step, total: steps, detail: figures(step) }),
    signal,
  });
  const { checkpoint, result: router, log } = trainingFiles(out, ROUTER_FILE);
  if (outcome.step < steps) {
    const next = [commandLine(true)];
    say(`Stopped after ${outcome.step} of ${steps} steps, which ${checkpoint} holds. Continue with:\n  ${next}`);
    if (json) console.log(JSON.stringify({ out, stopped: true, step: outcome.step, steps, next }));
    return work.status ?? 1;
  }
  const seconds = (performance.now() - start) / 1000;
  const grid = transformer.gridOf((await data.sample(0)).shape);
  const { density, routes } = await routedReport({
    gpu,
    shape: transformer.config,
    layout: { grid, kept: 0 },
    lengths: [0],
    timesteps: NOISE_LEVELS,
    timeEmbedding: (timesteps) => transformer.timeEmbedding(timesteps),
  }, {
    router: outcome.router,
    settings: () => settings,
    tau,
    name: router,
  });
  const logged = await TrainingLog.read<RouterTrainingStep>(log);
  const trend = {
    loss: logged.trend(({ loss }) => loss),
    diffusion: logged.trend(({ losses }) => losses.diffusion),
    distillation: logged.trend(({ losses }) => losses.distillation),
  };
  const shares = branchShares(routes!.flat().flatMap((heads) => [...heads]));
  const distilled = recipeOf(values).weights.distillation > 0;
  const verdict = routerVerdict({ steps, density, distilled, loss: trend.loss, distillation: trend.distillation });
  const next = await nextCommands(values, router);
  if (json) {
    const about = { router, steps, seconds, window: logged.window, losses: trend, tau, shares, density };
    console.log(JSON.stringify({ ...about, verdict, next }));
    return 0;
  }
  say([
    `${router}: ${steps} steps in ${formatDuration(seconds)}`,
    `Loss ${trendText(trend.loss)} (diffusion ${trendText(trend.diffusion)}, distillation ${
      trendText(trend.distillation)
    }): means of the first and the last ${logged.window === 1 ? "step" : `${logged.window} steps`}.`,
    `Heads at tau ${tau}: ${sharesText(shares)}, so that ${percent(density)} of full attention's pairs are multiplied.`,
    verdictText(verdict),
    `See it beside full attention, then use it:\n${next.map((line) => `  ${line}`).join("\n")}`,
  ].join("\n"));
  return 0;
}

/** The samples to train on. Those that the cache lacks are made now, by a copy of the model that is closed again. */
async function openData(values: Values, { gpu, onProgress, say, signal }: LongRun, folder: ModelFolder) {
  const { prompts, seed = DEFAULT_SEED } = values, given = clipValues(values), model = folder.path;
  const { "text-encoder": textEncoder, "weight-dtype": weightDtype } = values;
  const onNote = (note: string) => say(`Note: ${note}.`);
  // Opened last, so that nothing is made where prompts or clips are wrong.
  const options = async () => {
    const cache = await LatentCache.open(values.cache ?? "out/latents", onNote);
    return { gpu, model, textEncoder, weightDtype, cache, onProgress, signal };
  };
  if (prompts !== undefined) {
    const clips = await clipsOfPrompts(prompts, { model, values: given, seed });
    return await sampledSet(clips, await options());
  }
  const clips = await captionedClips(values.data!, clipShape(given, folder.generation), onNote);
  return await encodedSet(clips, await options());
}

/** Timesteps that routes are counted over, evenly spread as those of the training are. */
const NOISE_LEVELS = Array.from({ length: 25 }, (_, i) => 980 - 40 * i);

/** What routed attention would do at these timesteps. */
async function routedReport(task: AttentionTask, options: RoutedAttentionOptions): Promise<AttentionReport> {
  using prepared = await routedAttention(options).prepare(task);
  return prepared.report;
}

/** Comparing the router with full attention on the first prompt, and rendering with it. */
async function nextCommands(values: Values, router: string): Promise<string[]> {
  const prompt = values.prompts === undefined
    ? (await findClips(values.data!))[0]!.caption
    : (await readPrompts(values.prompts))[0]!.prompt;
  const words = [prompt, ...sharedOptions(options)];
  const tau = values.tau === undefined ? [] : ["--tau", String(values.tau)];
  const setting = [
    "vorta",
    `router=${/\s/.test(router) ? `"${router}"` : router}`,
    ...tau.length ? [`tau=${tau[1]}`] : [],
  ];
  return [
    lineOf("compare", ...words, "--setting", "full", "--setting", setting.join(" ")),
    lineOf("generate", ...words, "--router", router, ...tau),
  ];
}

/** The options that only one of the two sources of data knows. */
const OF_PROMPTS = ["sampling-steps", "guidance", "negative", "scheduler", "sigmas", "flow-shift"] as const;
const OF_DATA = ["fps"] as const;

function checkData(values: Values): void {
  const { prompts, data } = values;
  if ((prompts === undefined) === (data === undefined)) {
    throw new TilereelError(
      `give ${data === undefined ? "" : "only one of "}--prompts FILE, whose clips the model makes itself, ` +
        `or --data DIR, a folder of clips with captions`,
    );
  }
  const other = (data === undefined ? OF_DATA : OF_PROMPTS).find((name) => values[name] !== undefined);
  if (other !== undefined) {
    throw new TilereelError(
      `--${other} has no effect with ${data === undefined ? "--prompts" : "--data"}: leave it out`,
    );
  }
}

function clipValues(values: Values): ClipValues {
  const { size, frames, fps, guidance, negative, scheduler, sigmas, "sampling-steps": steps } = values;
  const all = { size, frames, fps, guidance, negative, scheduler, sigmas, steps, "flow-shift": values["flow-shift"] };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function recipeOf(values: Values): TrainingRecipe {
  const { weights, lr, weightDecay, accumulate, clip, intervals } = AUTHORS_RECIPE;
  return {
    lr: values.lr ?? lr,
    weightDecay: values["weight-decay"] ?? weightDecay,
    accumulate: values.accumulate ?? accumulate,
    clip: values.clip ?? clip,
    intervals: values.intervals ?? intervals,
    weights: {
      diffusion: values["diffusion-weight"] ?? weights.diffusion,
      regularization: values["regularization-weight"] ?? weights.regularization,
      distillation: values["distillation-weight"] ?? weights.distillation,
      hidden: values["hidden-weight"] ?? weights.hidden,
    },
  };
}

/** Tokens of the clips. */
function clipGrid({ size, frames }: Values, { generation }: ModelFolder): Grid {
  const { width, height } = size ?? generation;
  return [((frames ?? generation.frames) - 1) / FRAME_MULTIPLE + 1, height / SIZE_MULTIPLE, width / SIZE_MULTIPLE];
}

/** What the data and the model are, beyond what the trainer sees of them. */
async function identityOf(values: Values, folder: ModelFolder, data: TrainingSet): Promise<TrainingIdentity> {
  const { generation } = folder;
  const { width, height } = values.size ?? generation;
  return {
    model: (await modelDigest([await folder.component("transformer")])).slice(0, 16),
    ...castIdentity(values["weight-dtype"]),
    ...values.prompts === undefined
      ? { source: "clips", "digest of the clips": data.digest.slice(0, 16) }
      : { source: "prompts", "digest of the prompts": digest(await Deno.readTextFile(values.prompts)) },
    size: `${width}x${height}`,
    frames: values.frames ?? generation.frames,
    ...values.data === undefined
      ? {
        "sampling-steps": values["sampling-steps"] ?? generation.steps,
        guidance: values.guidance ?? generation.guidance,
        negative: values.negative ?? "",
        scheduler: values.scheduler ?? "the model's",
        "flow-shift": values["flow-shift"] ?? "the model's",
        ...values.sigmas !== undefined && { sigmas: String(values.sigmas) },
      }
      : { fps: values.fps ?? generation.fps },
  };
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}

async function loadTransformer(
  gpu: Gpu,
  folder: ModelFolder,
  dtype: WeightDtypeChoice | undefined,
  onProgress: OnProgress,
): Promise<WanTransformer3DModel> {
  const path = await folder.component("transformer");
  const config = await readTransformerConfig(join(path, "config.json"));
  using source = await openCheckpoint(path, "diffusion_pytorch_model");
  return await WanTransformer3DModel.load(gpu, source, config, onProgress, { dtype });
}

/** What to say where a branch is no sparser than full attention. */
function coarseNote(grid: Grid, { tile, window, bucket }: VortaSettings): string | undefined {
  const seesAll = grid.every((tokens, axis) => Math.ceil(tokens / tile[axis]!) <= window[axis]!);
  const noBucket = grid.some((tokens, axis) => tokens < bucket[axis]!);
  if (!seesAll && !noBucket) return undefined;
  const what = seesAll
    ? `a window of ${sizesText(window)} tiles of ${
      sizesText(tile)
    } covers all of it, so sliding-tile attention is full ` +
      `attention; name a smaller --tile`
    : `no bucket of ${
      sizesText(bucket)
    } fits into it, so core-set attention is full attention; name a smaller --bucket`;
  return `Note: these clips are a grid of ${sizesText(grid)} tokens: ${what}.`;
}

/** `loss 3.797 (diffusion 0.412, distillation 0.168)  full 31%, core-set 40%, sliding 29%` */
function figures({ loss, losses: { diffusion, distillation }, shares }: RouterTrainingStep): string {
  const short = (value: number) => value.toPrecision(3);
  return `loss ${short(loss)} (diffusion ${short(diffusion)}, distillation ${short(distillation)})  ${
    sharesText(shares)
  }`;
}

function sharesText(shares: Readonly<Record<Branch, number>>): string {
  const names = { full: "full", coreset: "core-set", sliding: "sliding" };
  return BRANCHES.map((branch) => `${names[branch]} ${Math.round(100 * shares[branch])}%`).join(", ");
}
