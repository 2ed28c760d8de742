/**
 * The options that both trainings have.
 *
 * @module
 */
import { flag, integer, number, path } from "../../tools/program/options.ts";

const TRAINING = "Training", OUTPUT = "Output";

/** What a training does where an option is not given. */
export interface TrainingDefaults {
  /** The folder, and the name of the result's file in it. */
  readonly out: string;
  readonly result: string;
  readonly steps: number;
  readonly checkpointEvery: number;
}

/** --steps, --lr and --weight-decay; `each` says what a step is. */
export const optimizerOptions = (
  { steps }: TrainingDefaults,
  recipe: { readonly lr: number; readonly weightDecay: number },
  each = "",
) => ({
  steps: integer({
    group: TRAINING,
    value: "N",
    help: `Steps of the optimizer${each}.`,
    elsewhere: ["max-train-steps", "num-steps"],
    default: String(steps),
    min: 1,
  }),
  lr: number({
    group: TRAINING,
    value: "X",
    help: "Learning rate.",
    elsewhere: ["learning-rate"],
    default: String(recipe.lr),
    above: 0,
  }),
  "weight-decay": number({
    group: TRAINING,
    value: "X",
    help: "AdamW's weight decay.",
    default: String(recipe.weightDecay),
    min: 0,
  }),
});

/** --out, --resume and --checkpoint-every. */
export const outputOptions = ({ out, result, checkpointEvery }: TrainingDefaults) => ({
  out: path({
    group: OUTPUT,
    short: "o",
    value: "DIR",
    help: `Folder of ${result}, checkpoint.safetensors and metrics.jsonl (one line a step).`,
    elsewhere: ["output", "exp-dir", "output-dir"],
    default: out,
  }),
  resume: flag({
    group: OUTPUT,
    help:
      "Continue the training in --out. Give the other options as before; the result is that of an uninterrupted run.",
  }),
  "checkpoint-every": integer({
    group: OUTPUT,
    value: "N",
    help: "Steps from one checkpoint to the next. Ctrl-C and the end make one, too.",
    elsewhere: ["ckpt-interval", "save-every"],
    default: String(checkpointEvery),
    min: 1,
  }),
});

/** --json and --quiet. */
export const reportOptions = {
  json: flag({ group: OUTPUT, help: "Print one JSON object at the end, with the verdict, and nothing else." }),
  quiet: flag({ group: OUTPUT, short: "q", help: "Print nothing but errors." }),
};
