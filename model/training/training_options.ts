import {
  aboveZero,
  aFlag,
  aFunction,
  anAbortSignal,
  aNumber,
  aPath,
  type Kinds,
  optional,
  wholeNumber,
} from "../../gpu/common/check_options.ts";
import { LARGEST_SEED } from "../noise.ts";
import type { AdamWOptions } from "./adamw.ts";
import type { TrainingIdentity } from "./identity.ts";
import type { LoggedStep } from "./step_log.ts";

/** Where the results of a training go, and how long it is. */
export interface TrainingOptions<Step extends LoggedStep> {
  /** The number of optimizer steps, from the start of the training. */
  readonly steps: number;
  /** Created if necessary. It holds the result, `checkpoint.safetensors`, and `metrics.jsonl`, one line a step. */
  readonly folder: string;
  /** The start of all that is random. Default: 0 */
  readonly seed?: number;
  /** The number of steps between checkpoints. Default: 10 */
  readonly checkpointEvery?: number;
  /** Whether to resume from the folder's checkpoint. Then the result is that of an uninterrupted training. */
  readonly resume?: boolean;
  /** Anything else that affects the result, such as the model. A checkpoint with another identity is not resumed. */
  readonly identity?: TrainingIdentity;
  /** Called before the first step with the number of steps that are already done. */
  readonly onStart?: (step: number) => void;
  /** Called after each step with its figures. */
  readonly onStep?: (step: Step) => void;
  /** Ends the training soon. The state after the last whole step is saved. */
  readonly signal?: AbortSignal;
}

/** Of {@link TrainingOptions}. */
export const TRAINING_KINDS: Kinds<TrainingOptions<LoggedStep>> = {
  steps: wholeNumber(1),
  folder: aPath,
  seed: wholeNumber(0, LARGEST_SEED),
  checkpointEvery: wholeNumber(1),
  resume: aFlag,
  identity: { expected: "an object of texts and numbers", fits: (value) => typeof value === "object" },
  onStart: aFunction,
  onStep: aFunction,
  signal: anAbortSignal,
};

/** Of AdamW's options in a recipe. */
export const ADAMW_KINDS: Kinds<AdamWOptions> = {
  lr: aboveZero,
  weightDecay: aNumber(0),
  warmup: optional(wholeNumber(0)),
  beta2: optional(aNumber(0, 1)),
};
