import { clipOptions } from "./clip_options.ts";
import { overlay, RANDOM_SEED } from "./clip_settings.ts";
import { imageOptions } from "./image_options.ts";
import { methodOptions, stillMeant } from "./method_options.ts";
import { integer, number, ofClip, type OptionValues, text, withoutPaths } from "../options.ts";
import { DEFAULT_QUALITY } from "../../../model/video/mp4.ts";

/** A larger number is probably a typing error. */
const MOST_CLIPS = 10_000;

/** The options that describe one clip of `generate`: on the command line, and as keys of a line in a prompts file. */
export const batchOptions = ofClip({
  ...clipOptions,
  ...imageOptions,
  seed: integer({
    ...clipOptions.seed,
    help: "Seed of the noise, or -1 for a random seed. The same seed on the same adapter gives the same bytes.",
    default: "a random seed, which is shown; with --prompts, a seed made from each prompt, so that a batch can be " +
      "resumed",
    min: RANDOM_SEED,
  }),
  count: integer({
    group: "Clip",
    help: "Number of clips per prompt. The seed rises by 1 from each to the next.",
    elsewhere: ["batch-size", "batch-count", "num-videos", "num-videos-per-prompt", "b"],
    default: 1,
    min: 1,
    max: MOST_CLIPS,
  }),
  quality: number({
    group: "Output",
    help: "Quality of an MP4, from 1 to 100. Higher values make larger files. GIF and PNG are not affected.",
    elsewhere: ["crf", "bitrate"],
    default: DEFAULT_QUALITY,
    min: 1,
    max: 100,
  }),
  ...methodOptions,
});

/** Values of {@linkcode batchOptions} that were given. */
export type BatchValues = OptionValues<typeof batchOptions>;

const { count: _, ...ofOneClip } = withoutPaths(batchOptions);

/** What a caller over HTTP, or a form of a page, may say of one clip. Read it by `readValues`, then call `checkPrompt` and `seedOf`. */
export const requestOptions = ofClip({
  prompt: text({ group: "Clip", value: "TEXT", help: "What the clip should show." }),
  ...ofOneClip,
});

/** Merges values. Where they contradict each other, those of `over` take precedence. */
export function overlaid(under: BatchValues, over: BatchValues): BatchValues {
  return overlay(stillMeant(under, over), over);
}
