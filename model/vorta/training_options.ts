import {
  aboveZero,
  aFunction,
  aNumber,
  either,
  type Kinds,
  objectWith,
  optional,
  wholeNumber,
} from "../../gpu/common/check_options.ts";
import type { Grid } from "../attention/grid.ts";
import type { TrainingSet } from "../training/data/training_set.ts";
import { ADAMW_KINDS, TRAINING_KINDS, type TrainingOptions } from "../training/training_options.ts";
import { type LossWeights, TIMESTEPS, type TrainingRecipe } from "./recipe.ts";
import type { RouterOfSize } from "./router_file.ts";
import type { RoutedModel } from "./routed_model.ts";
import type { SettingsOfGrids } from "./settings.ts";
import type { RouterTrainingStep } from "./training_figures.ts";

/** The model to train, the data, and the place of the results. */
export interface RouterTraining extends TrainingOptions<RouterTrainingStep> {
  /** As `routedModel` makes it of a model and its transformer. */
  readonly model: RoutedModel;
  /** As `sampledSet` or `encodedSet` makes it. */
  readonly data: TrainingSet;
  /**
   * The sizes of tiles and buckets; `defaultSettings` has some for every grid. A function gives those of each grid: then
   * samples may differ in size, and the router's file has no settings.
   */
  readonly settings: SettingsOfGrids;
  /** The tokens of the clips, of every size; the router's file says them. */
  readonly grids?: readonly Grid[];
  /** Routers for clips of other sizes, which come into its file, too. */
  readonly others?: readonly RouterOfSize[];
  /** As in `RouterOfSize`; the router's file says it. It does not affect the training. */
  readonly denseShare?: number | undefined;
  /** Default: the authors' */
  readonly recipe?: TrainingRecipe;
  /** The threshold at which `shares` are counted. It does not affect the training. Default: 0.3 */
  readonly tau?: number;
  /** Called after each sample of a step but the last, with the number of steps that are done, a fraction. */
  readonly onSample?: (steps: number) => void;
}

const WEIGHT_KINDS: Kinds<LossWeights> = {
  diffusion: aNumber(0),
  regularization: aNumber(0),
  distillation: aNumber(0),
  hidden: aNumber(0),
};

const RECIPE_KINDS: Kinds<TrainingRecipe> = {
  ...ADAMW_KINDS,
  accumulate: wholeNumber(1),
  clip: aboveZero,
  intervals: wholeNumber(1, TIMESTEPS),
  shift: optional(aboveZero),
  weights: objectWith("the weight of each loss", WEIGHT_KINDS),
  average: optional(aNumber(0, 1)),
  density: optional(aNumber(0, 1)),
};

/** Of {@link RouterTraining}. */
export const ROUTER_TRAINING_KINDS: Kinds<RouterTraining> = {
  ...TRAINING_KINDS,
  model: objectWith("a model, as routedModel gives it,", { timeEmbedding: aFunction, pass: aFunction }),
  data: objectWith("a training set with at least one sample", { size: wholeNumber(1), sample: aFunction }),
  settings: either(
    objectWith("an object with tile, window, bucket and rate, as defaultSettings gives it,", { rate: aNumber(0, 1) }),
    { ...aFunction, expected: "a function from a grid to one" },
  ),
  recipe: objectWith("a recipe with all that AUTHORS_RECIPE has, each in its range,", RECIPE_KINDS),
  grids: { expected: "a list of grids of three whole numbers", fits: Array.isArray },
  others: { expected: "a list of routers, as loadRouter gives them,", fits: Array.isArray },
  denseShare: aNumber(0, 1),
  tau: aNumber(0, 1),
  onSample: aFunction,
};
