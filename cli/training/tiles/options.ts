import { TilereelError } from "../../../gpu/common/errors.ts";
import type { TileShapes } from "../../../model/veda/tile_shapes.ts";
import { TILES_FILE } from "../../../model/veda/tile_trainer.ts";
import { TILE_LOSSES, TILE_RECIPE, type TileRecipe } from "../../../model/veda/training_options.ts";
import { choice, inGroup, number, type OptionValues, path } from "../../../tools/program/options.ts";
import { samplingRunOptions } from "../../../tools/program/sampling_options.ts";
import { trainedModelOptions, weightsOption } from "../../../tools/program/model_options.ts";
import {
  adamwOptions,
  optimizerOptions,
  outputOptions,
  precisionOption,
  reportOptions,
  type TrainingDefaults,
  withDefaults,
} from "../options.ts";
import { loadTiles, tileOptions } from "../tile_options.ts";
import { addToOption } from "../add_to.ts";

/** Defaults of the command. */
export const DEFAULTS: TrainingDefaults = { out: "out/tiles", result: TILES_FILE, steps: 500, checkpointEvery: 100 };

/** The options of `tilereel train tiles`. */
export const options = {
  ...samplingRunOptions,
  ...inGroup("Tiles", {
    target: choice({
      choices: ["max", "sum"],
      help: "What the scores learn of full attention: the largest attention from a token of one tile to a token of " +
        "another, or the sum of it.",
      elsewhere: ["teacher"],
      default: TILE_RECIPE.target,
    }),
    loss: choice({
      choices: TILE_LOSSES,
      help:
        "How far scores are from it. kl: the divergence of their distribution; retained: the share of the attention " +
        "in the best --keep of the tiles that a choice by the scores loses.",
      elsewhere: ["objective"],
      default: TILE_RECIPE.loss,
    }),
    plan: path({
      value: "FILE",
      help: 'A shape for every head, as "tilereel search tiles" makes it. It is copied into the result.',
      elsewhere: ["tile-plan", "tiles"],
      default: "one shape for all",
    }),
    ...tileOptions(
      "the plan's, or ",
      "Share of tiles at which recall and kept attention are shown, and of --loss retained.",
    ),
  }),
  ...optimizerOptions(DEFAULTS, TILE_RECIPE, ", one for each denoising step that the model takes"),
  ...inGroup("Training", adamwOptions),
  clip: number({
    group: "Training",
    help: "Largest norm of a layer's gradient.",
    elsewhere: ["max-grad-norm", "grad-clip"],
    default: "none",
    above: 0,
  }),
  average: number({
    group: "Training",
    help: "Share of the moving averages of the weights that a step keeps. The averages are the result.",
    elsewhere: ["ema", "ema-decay"],
    default: TILE_RECIPE.average,
    min: 0,
    max: 1,
  }),
  ...trainedModelOptions,
  weights: weightsOption,
  precision: precisionOption,
  ...outputOptions(DEFAULTS),
  "add-to": addToOption("tiles"),
  ...reportOptions,
};

/** The values that were given. */
export type TilesValues = OptionValues<typeof options>;

/** The recipe: the default, where nothing else was asked for. */
export function recipeOf(
  { target, loss, lr, "weight-decay": weightDecay, average, warmup, beta2, clip }: TilesValues,
): TileRecipe {
  return withDefaults({ target, loss, lr, weightDecay, average, warmup, beta2, clip }, TILE_RECIPE);
}

/**
 * The shapes of tiles that were asked for.
 *
 * @throws {TilereelError} if the file has no plan, or one of other tiles
 */
export async function planOf(values: TilesValues): Promise<{ shapes?: TileShapes; tileTokens?: number }> {
  const { plan: file } = values;
  if (file === undefined) return {};
  const { shapes, tileTokens } = await loadTiles(file, values["tile-tokens"]);
  if (!shapes) throw new TilereelError(`${file} has no plan of shapes: make one with "tilereel search tiles"`);
  return { shapes, tileTokens };
}
