import { LARGEST_SEED } from "../../../model/noise.ts";
import { SCHEDULER_KINDS } from "../../../model/schedulers/config.ts";
import { PRESET_NAMES, PRESETS } from "../../../model/schedulers/presets.ts";
import { checkSigmas, SIGMA_GRID_NAMES, SIGMA_GRIDS, type Sigmas } from "../../../model/schedulers/sigmas.ts";
import { commonMultiples } from "../../../model/families.ts";
import { checkFrames, checkSize } from "../../../model/video_size.ts";
import { choice, inGroup, integer, notation, number, ofClip, type OptionValues, text } from "../options.ts";

/** Width and height in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Models distinguish 1000 noise levels: with more steps, some would change nothing. */
const MOST_STEPS = 1000;

/** 17 hours at 16 frames per second: a larger number is probably a typing error. */
const MOST_FRAMES = 1_000_001;

/** The options that all settings of a comparison share. */
export const sceneOptions = ofClip({
  ...inGroup("Clip", {
    size: notation<Size>(
      {
        value: "WxH",
        help: `Width and height in pixels, both multiples of ${commonMultiples().side}.`,
        elsewhere: ["width", "height", "resolution", "W", "H"],
        default: "the model's",
        unit: "pixels",
      },
      "a width and a height as in 832x480",
      (text, name) => {
        const [, width, height] = /^(\d+)[x×*](\d+)$/i.exec(text)?.map(Number) ?? [];
        if (width === undefined || height === undefined) return undefined;
        checkSize(commonMultiples(), width, height, name);
        return { width, height };
      },
    ),
    frames: integer({
      help: `Number of frames: a multiple of ${commonMultiples().frames} plus 1.`,
      elsewhere: ["num-frames", "video-frames", "length"],
      default: "the model's",
      min: 1,
      max: MOST_FRAMES,
    }, (value, name) => checkFrames(commonMultiples(), value, name)),
    fps: number({
      help: "Frames per second, such as 16 or 23.976.",
      elsewhere: ["frame-rate"],
      default: "the model's",
      unit: "frames a second",
      min: 1,
      max: 240,
    }),
  }),
  seed: integer({
    group: "Sampling",
    help: "Seed of the noise. The same seed on the same adapter gives the same bytes.",
    default: "a random seed, which is shown",
    min: 0,
    max: LARGEST_SEED,
  }),
});

/** How a clip is sampled. Settings of a comparison may differ in these. */
export const samplingOptions = ofClip(inGroup("Sampling", {
  preset: choice({
    choices: PRESET_NAMES,
    help:
      "Settings for models and LoRAs of few steps: steps, noise levels, scheduler, flow shift and guidance. Options " +
      `beside it count more. ${Object.entries(PRESETS).map(([name, { what }]) => `${name}: ${what}.`).join(" ")}`,
    default: "none; a model that was trained for few steps says so itself",
  }),
  negative: text({
    value: "TEXT",
    help: "What the clip should not show. It has an effect where guidance takes a second pass.",
    elsewhere: ["negative-prompt", "n"],
    default: "nothing",
  }),
  steps: integer({
    help: "Number of denoising steps. More steps are slower and often better.",
    elsewhere: ["num-inference-steps", "sampling-steps", "sample-steps"],
    default: "the model's",
    min: 1,
    max: MOST_STEPS,
  }),
  guidance: number({
    help: "How closely to follow the prompt. 1 turns guidance off, which halves the time where it takes a second pass.",
    elsewhere: ["guidance-scale", "cfg-scale", "cfg", "guide-scale", "sample-guide-scale"],
    default: "the model's",
    min: 0,
  }),
  "guidance-low": number({
    help: "That at low noise, for models that have another transformer there, such as Wan 2.2 A14B.",
    elsewhere: ["guidance-scale-2", "low-noise-guidance"],
    default: "as --guidance where that is given, or the model's",
    min: 0,
  }),
  scheduler: choice({
    choices: SCHEDULER_KINDS,
    help:
      "The sampler that takes the steps. unipc and euler are for all models; lcm and dmd, which add fresh noise at " +
      "each step, are for models and LoRAs that were trained for a few steps.",
    elsewhere: ["sampler", "sampler-name", "sampling-method", "sample-solver"],
    default: "the model's",
  }),
  sigmas: notation<Sigmas>(
    {
      value: `${SIGMA_GRID_NAMES.join("|")}|LIST`,
      help: `Noise levels of the steps. ${
        SIGMA_GRID_NAMES.map((name) => `${name}: ${SIGMA_GRIDS[name].meaning}; `).join("")
      }` +
        "or a falling list such as 1,0.75,0.5,0.25 with one number per step. --flow-shift applies to all of them; 1 " +
        "leaves a list as it is.",
      elsewhere: ["custom-sigmas", "sigma-schedule"],
      choices: SIGMA_GRID_NAMES,
      default: "the model's",
    },
    `${SIGMA_GRID_NAMES.join(", ")}, or falling numbers as in 1,0.75,0.5,0.25`,
    (text, name) => {
      const grid = SIGMA_GRID_NAMES.find((word) =>
        word === text
      );
      if (grid !== undefined) return grid;
      const list = text.split(",").map((part) => /^\s*[-+.\de]+\s*$/i.test(part) ? Number(part) : NaN);
      if (list.some(Number.isNaN)) return undefined;
      checkSigmas(list, name);
      return list;
    },
  ),
  "flow-shift": number({
    help:
      "Shift of the noise levels. A higher value spends more of the steps at high noise, which suits larger clips. The guide of " +
      "diffusers recommends 3 for 480p and 5 for 720p with Wan; Wan's own program uses 5 for both.",
    elsewhere: ["shift", "sample-shift"],
    default: "the model's, which may depend on the size",
    above: 0,
  }),
}));

/** The options that describe one clip: on the command line, and as keys of a line in a prompts file. */
export const clipOptions = { ...sceneOptions, ...samplingOptions };

/** Values of {@linkcode clipOptions} that were given. */
export type ClipValues = OptionValues<typeof clipOptions>;
