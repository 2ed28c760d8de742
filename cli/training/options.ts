import { choice, flag, inGroup, integer, number, path } from "../../tools/program/options.ts";

/** The defaults of a training. */
export interface TrainingDefaults {
  /** The folder, and the name of the result's file in it. */
  readonly out: string;
  readonly result: string;
  readonly steps: number;
  readonly checkpointEvery: number;
}

/** --warmup and --beta2, of all trainings with AdamW. */
export const adamwOptions = {
  warmup: integer({
    help: "Number of steps in which the learning rate rises to --lr.",
    elsewhere: ["lr-warmup-steps", "warmup-steps"],
    default: 0,
    min: 0,
  }),
  beta2: number({ help: "AdamW's β₂.", elsewhere: ["adam-beta2"], default: 0.999, min: 0, max: 1 }),
};

/** --steps, --lr and --weight-decay; `each` says what a step is. */
export const optimizerOptions = (
  { steps }: TrainingDefaults,
  recipe: { readonly lr: number; readonly weightDecay: number },
  each = "",
) =>
  inGroup("Training", {
    steps: integer({
      help: `Number of optimizer steps${each}.`,
      elsewhere: ["max-train-steps", "num-steps"],
      default: steps,
      min: 1,
    }),
    lr: number({ help: "Learning rate.", elsewhere: ["learning-rate"], default: recipe.lr, above: 0 }),
    "weight-decay": number({ help: "AdamW's weight decay.", default: recipe.weightDecay, min: 0 }),
  });

/** --precision. */
export const precisionOption = choice({
  group: "Model",
  choices: ["auto", "f32", "f16"],
  help:
    "Number format of the operands of matrix products, forward and backward; sums are f32. auto: f16 on GPUs that " +
    "support it, f32 on software adapters.",
  elsewhere: ["dtype", "mixed-precision"],
  default: "auto",
});

/** --out, --resume and --checkpoint-every. */
export const outputOptions = ({ out, result, checkpointEvery }: TrainingDefaults) =>
  inGroup("Output", {
    out: path({
      short: "o",
      value: "DIR",
      help: `Folder of ${result}, checkpoint.safetensors and metrics.jsonl (one line per step).`,
      elsewhere: ["output", "exp-dir", "output-dir"],
      default: out,
    }),
    resume: flag({
      help:
        "Continue the training in --out. Give the other options as before; the result is that of an uninterrupted run.",
    }),
    "checkpoint-every": integer({
      help: "Number of steps between checkpoints. Ctrl-C and the end of the training also write one.",
      elsewhere: ["ckpt-interval", "save-every"],
      default: checkpointEvery,
      min: 1,
    }),
  });

/** --dry-run, --json and --quiet. */
export const reportOptions = inGroup("Output", {
  "dry-run": flag({
    help: "Only say what would be trained, how much memory it takes, and about how long. Nothing is loaded or written.",
  }),
  json: flag({ help: "Print one JSON object at the end, with the verdict, and nothing else." }),
  quiet: flag({ short: "q", help: "Print nothing but errors." }),
});

/** The given options over the defaults. */
export function withDefaults<T extends object>(given: { [K in keyof T]?: T[K] | undefined }, defaults: T): T {
  const entries = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...defaults, ...Object.fromEntries(entries) };
}
