import { flag, inGroup, integer, type OptionValues, path } from "../../../tools/program/options.ts";
import { samplingRunOptions } from "../../../tools/program/sampling_options.ts";
import { trainedModelOptions } from "../../../tools/program/model_options.ts";
import { reportOptions } from "../options.ts";
import { tileOptions } from "../tile_options.ts";
import { addToOption } from "../add_to.ts";

/** Defaults of the command. */
export const DEFAULTS = { out: "out/plan.safetensors", looks: 3, mostShapes: 3 };

/** The options of `tilereel search tiles`. */
export const options = {
  ...samplingRunOptions,
  ...inGroup("Search", {
    ...tileOptions("", "Share of the tiles that is kept while shapes are compared."),
    looks: integer({
      help: "Number of denoising steps per clip at which all shapes are tried. They are spread evenly.",
      default: DEFAULTS.looks,
      min: 1,
    }),
    "most-shapes": integer({
      help: 'Largest number of different shapes in one layer. "train tiles" needs a run of the kernels for each.',
      default: DEFAULTS.mostShapes,
      min: 1,
      max: 256,
    }),
    budgets: flag({
      help: "Also find how many tiles each head keeps, so that the mean stays at --keep and the error becomes least. " +
        "Heads with different budgets are computed together.",
    }),
  }),
  ...trainedModelOptions,
  ...inGroup("Output", {
    out: path({ short: "o", value: "FILE", help: "The file to write.", elsewhere: ["output"], default: DEFAULTS.out }),
    scorer: path({
      value: "FILE",
      help:
        'Copy the scores of this file into the result. Scores that "train tiles --plan" trains for the new shapes are better.',
      default: "none",
    }),
    "add-to": addToOption("tiles"),
    json: flag({ help: "Print the whole table as JSON." }),
    quiet: reportOptions.quiet,
  }),
};

/** The values that were given. */
export type SearchValues = OptionValues<typeof options>;
