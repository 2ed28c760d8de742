import { LARGEST_SEED } from "../../../model/noise.ts";
import { DEFAULT_TAU } from "../../../model/vorta/methods.ts";
import { AUTHORS_RECIPE, type TrainingRecipe } from "../../../model/vorta/recipe.ts";
import { ROUTER_FILE } from "../../../model/vorta/trainer.ts";
import { clipOptions } from "../../../tools/program/clip/clip_options.ts";
import { vortaOptions } from "../../../tools/program/clip/vorta_options.ts";
import { flag, inGroup, integer, number, type OptionValues, path } from "../../../tools/program/options.ts";
import { sampledClipOptions } from "../../../tools/program/sampling_options.ts";
import { trainedModelOptions, weightsOption } from "../../../tools/program/model_options.ts";
import { addToOption } from "../add_to.ts";
import { shardOption } from "../../shards/shard.ts";
import {
  adamwOptions,
  optimizerOptions,
  outputOptions,
  precisionOption,
  reportOptions,
  type TrainingDefaults,
  withDefaults,
} from "../options.ts";

/** Defaults of the command. */
export const DEFAULTS: TrainingDefaults = { out: "out/router", result: ROUTER_FILE, steps: 100, checkpointEvery: 10 };
/** The folder of samples, where none is given. */
export const DEFAULT_CACHE = "out/latents";

const { weights } = AUTHORS_RECIPE;
const weight = (of: keyof typeof weights, elsewhere: string, help: string) =>
  number({ help, elsewhere: [elsewhere], default: weights[of], min: 0 });

/** The options of `tilereel train router`. */
export const options = {
  ...inGroup("Data (one of --prompts and --data)", {
    prompts: path({
      short: "p",
      value: "FILE",
      help:
        "Train without a data set: on clips that the model makes of these prompts, one per line, or JSON objects as " +
        '"tilereel generate --prompts" takes them.',
    }),
    data: path({
      short: "d",
      value: "DIR",
      help: "Train on clips: videos or folders of frames, each with its caption beside it (cat.mp4 and cat.txt), or " +
        'listed in metadata.jsonl as {"file": "cat.mp4", "caption": "a cat"}.',
      elsewhere: ["data-dir", "data-json-file", "dataset"],
    }),
    size: clipOptions.size,
    frames: clipOptions.frames,
    fps: { ...clipOptions.fps, help: "Frames per second at which the clips of --data are sampled." },
    cache: path({
      value: "DIR",
      help: "Folder where latents are kept. Several trainings can share it.",
      default: DEFAULT_CACHE,
    }),
    prepare: flag({
      help: "Make the latents, and no router. A training with the same options then finds them in --cache.",
      elsewhere: ["cache-latents", "preprocess", "precompute"],
    }),
    shard: shardOption("With --prepare: make a part of the latents in this process, and the others elsewhere."),
  }),
  ...sampledClipOptions("Clips that the model makes of --prompts"),
  ...optimizerOptions(DEFAULTS, AUTHORS_RECIPE),
  ...inGroup("Training", {
    accumulate: integer({
      help: "Number of samples per step.",
      elsewhere: ["gradient-accumulation-steps", "batch-size"],
      default: AUTHORS_RECIPE.accumulate,
      min: 1,
    }),
    clip: number({
      help: "Largest norm of a step's gradient.",
      elsewhere: ["max-grad-norm", "grad-clip"],
      default: AUTHORS_RECIPE.clip,
      above: 0,
    }),
    ...adamwOptions,
    average: number({
      help: "Share of the moving averages of the weights that a step keeps. The averages are the result; 0 for none.",
      elsewhere: ["ema", "ema-decay"],
      default: 0,
      min: 0,
      max: 1,
    }),
    intervals: integer({
      help:
        "Number of equal intervals of the noise levels. All samples of a step come from one of them. The last one has " +
        "the least noise. The diffusion loss is left out below timestep 1000/N: in the last interval, or with " +
        "--timestep-shift in a part of it.",
      elsewhere: ["t-num-intervals"],
      default: AUTHORS_RECIPE.intervals,
      min: 1,
      max: 1000,
    }),
    "timestep-shift": number({
      help:
        "Shift of the noise levels that are trained. With the --flow-shift of the clips that the router is for, levels are " +
        "drawn as often as the steps of these clips have them, and --density is then that of such a clip.",
      default: 1,
      above: 0,
    }),
    seed: integer({
      help: "Seed of all random numbers. The same seed on the same adapter gives the same router.",
      default: 0,
      min: 0,
      max: LARGEST_SEED,
    }),
  }),
  ...inGroup("Loss", {
    "diffusion-weight": weight("diffusion", "diffusion-loss-weight", "Weight of the squared error to the velocity."),
    "regularization-weight": weight(
      "regularization",
      "reg-loss-weight",
      "Weight of the squared scores of full attention. A higher weight makes more heads sparse.",
    ),
    density: number({
      help:
        "Share of the pairs of queries and keys that is aimed at: finds the regularization weight while it trains. " +
        "--regularization-weight is where it starts.",
      elsewhere: ["target-density", "keep"],
      default: "none: the weight stays",
      above: 0,
      max: 1,
    }),
    "distillation-weight": weight(
      "distillation",
      "last-layer-distill-loss-weight",
      "Weight of the squared error to the model's own prediction with full attention.",
    ),
    "hidden-weight": weight(
      "hidden",
      "hidden-layer-distill-loss-weight",
      "Weight of the same error after every layer.",
    ),
  }),
  ...vortaOptions,
  ...outputOptions(DEFAULTS),
  "add-to": addToOption("routers"),
  "dense-share": number({
    group: "Output",
    help:
      "Share of a clip's first steps that have full attention with this router, rounded down, unless --dense-steps says " +
      "otherwise: 0.1 is two of 20 steps, and none of four. The router's file says so; the training is the same.",
    default: 0,
    min: 0,
    max: 1,
  }),
  tau: number({
    group: "Output",
    help:
      "In the shares that are shown, a head whose highest score is below this counts as full. The three scores of a " +
      "head sum to 1, so up to 1/3 it changes nothing.",
    elsewhere: ["tau-sparse"],
    default: DEFAULT_TAU,
    min: 0,
    max: 1,
  }),
  ...reportOptions,
  ...trainedModelOptions,
  weights: weightsOption,
  precision: precisionOption,
};

/** The values that were given. */
export type RouterValues = OptionValues<typeof options>;

/** The recipe: the authors', where nothing else was asked for. */
export function recipeOf(values: RouterValues): TrainingRecipe {
  const { lr, accumulate, clip, intervals, "weight-decay": weightDecay, warmup, beta2, average, density } = values;
  const shift = values["timestep-shift"];
  const { "diffusion-weight": diffusion, "regularization-weight": regularization } = values;
  const { "distillation-weight": distillation, "hidden-weight": hidden } = values;
  return {
    ...withDefaults(
      { lr, weightDecay, accumulate, clip, intervals, warmup, beta2, average, density, shift },
      AUTHORS_RECIPE,
    ),
    weights: withDefaults({ diffusion, regularization, distillation, hidden }, weights),
  };
}
