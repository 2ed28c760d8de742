import {
  aboveZero,
  aFunction,
  aNumber,
  type Kinds,
  objectWith,
  oneOf,
  optional,
  wholeNumber,
} from "../../gpu/common/check_options.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { aGpu } from "../pipeline_options.ts";
import type { LoggedStep } from "../training/step_log.ts";
import { ADAMW_KINDS, TRAINING_KINDS, type TrainingOptions } from "../training/training_options.ts";
import type { SamplingRuns } from "./sampling_states.ts";
import type { ScorerFigures } from "./scorer_updates.ts";
import type { UpdateOptions } from "./tile_parameters.ts";
import type { TileShapes } from "./tile_shapes.ts";
import type { Grid } from "../attention/grid.ts";
import type { Target, VedaFile } from "./veda_file.ts";

/**
 * "kl": the divergence of the scores from the teacher's heat, as in the paper. "retained": the share of the attainable
 * heat that a choice by the scores loses, see `retainedLoss`.
 */
export const TILE_LOSSES = ["kl", "retained"] as const;
export type TileLoss = typeof TILE_LOSSES[number];

/** Options of the optimizer. */
export interface TileRecipe extends UpdateOptions {
  /** The part of full attention that the scores are to predict. */
  readonly target: Target;
  readonly loss: TileLoss;
}

/** Defaults that worked for models of all sizes that were tried. */
export const TILE_RECIPE: TileRecipe = { target: "sum", loss: "kl", lr: 1e-3, weightDecay: 0, average: 0.99 };

/** The model to train, the data, and the place of the results. */
export interface TileTraining extends TrainingOptions<TileTrainingStep> {
  readonly gpu: Gpu;
  /** As `samplingRuns` makes them. */
  readonly runs: SamplingRuns;
  readonly tileTokens: number;
  /** The shapes, which have that number of tokens. Default: one that suits the grid */
  readonly shapes?: TileShapes;
  /** The tokens of the clips, if all are of one size: the result says so. */
  readonly grid?: Grid;
  /** Tiles for clips of other sizes, which are put into the result, too. */
  readonly others?: readonly VedaFile[];
  /** Default: `TILE_RECIPE` */
  readonly recipe?: TileRecipe;
  /** The share of tiles at which agreement with the oracle is measured, and of the loss "retained". Default: 0.1 */
  readonly keep?: number;
  /** Called with the number of denoising steps that are sampled again before training resumes, done and in all. */
  readonly onReplay?: (done: number, total: number) => void;
}

/** The figures of one step, as in `metrics.jsonl`. */
export interface TileTrainingStep extends LoggedStep, ScorerFigures {
  readonly lr: number;
  /** The index of the prompt, and the denoising step and pass of its run. */
  readonly sample: number;
  readonly denoising: number;
  readonly pass: number;
  readonly seconds: number;
}

const RECIPE_KINDS: Kinds<TileRecipe> = {
  ...ADAMW_KINDS,
  target: oneOf(["max", "sum"]),
  loss: oneOf(TILE_LOSSES),
  average: aNumber(0, 1),
  clip: optional(aboveZero),
};

/** Of {@link TileTraining}. */
export const TILE_TRAINING_KINDS: Kinds<TileTraining> = {
  ...TRAINING_KINDS,
  gpu: aGpu,
  runs: objectWith("sampling runs, as samplingRuns gives them,", { count: wholeNumber(1), sample: aFunction }),
  tileTokens: wholeNumber(1),
  shapes: objectWith("shapes of tiles, as loadVeda gives them,", { shapes: { expected: "", fits: Array.isArray } }),
  grid: { expected: "a grid of three whole numbers", fits: Array.isArray },
  others: { expected: "a list of tiles, as loadVeda gives them,", fits: Array.isArray },
  recipe: objectWith("a recipe with all that TILE_RECIPE has, each in its range,", RECIPE_KINDS),
  keep: aNumber(0, 1),
  onReplay: aFunction,
};
