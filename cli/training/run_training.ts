import type { Gpu } from "../../gpu/gpu.ts";
import type { Operands } from "../../gpu/precision.ts";
import { checkWritable } from "../../model/files/output.ts";
import type { TrainingOptions } from "../../model/training/training_options.ts";
import type { LoggedStep } from "../../model/training/step_log.ts";
import { checkTrainingFolder, trainingFiles } from "../../model/training/training_folder.ts";
import { commandLine } from "../../tools/program/command_line.ts";
import { type LongRun, type LongRunOptions, openLongRun } from "../../tools/program/long_run.ts";
import type { OptionValues } from "../../tools/program/options.ts";
import { formatDuration } from "../../tools/program/format_duration.ts";
import { TrainingLog } from "./log_summary.ts";
import type { optimizerOptions, outputOptions, reportOptions, TrainingDefaults } from "./options.ts";
import { printPlan, type TrainingPlan } from "./plan.ts";
import { printSummary, type Summary, withCommands } from "./summary.ts";

/** The values that both trainings have. */
export type TrainingValues = OptionValues<
  ReturnType<typeof optimizerOptions> & ReturnType<typeof outputOptions> & typeof reportOptions
>;

/** One kind of training, as a command runs it. */
export interface TrainingCommand<Step extends LoggedStep> {
  readonly defaults: TrainingDefaults;
  /** The result's key in the output of --json. */
  readonly kind: string;
  /** Said when the first Ctrl-C comes. */
  readonly stopping: string;
  /** Plans the training: what --dry-run prints. Nothing is loaded. */
  plan(gpu: Gpu): Promise<TrainingPlan>;
  /** Opens data and model. What it opens belongs to `cleanUp`. */
  open(work: LongRun, cleanUp: DisposableStack): Promise<OpenTraining<Step>>;
}

/** A training whose data and model are open. */
export interface OpenTraining<Step extends LoggedStep> {
  /** Trains, and returns the number of finished steps. `onPart` may be told of parts of a step, as a fraction. */
  train(options: TrainingOptions<Step>, onPart: (steps: number) => void): Promise<number>;
  /** The figures of a step, for the line of progress. */
  figures(step: Step): string;
  summarize(result: TrainingResult<Step>): Promise<Omit<Summary, "invitation">>;
}

/** A finished training. */
export interface TrainingResult<Step> {
  readonly file: string;
  readonly steps: number;
  readonly log: TrainingLog<Step>;
  /** The unit that the log's means are taken over, in words. */
  readonly means: string;
}

/**
 * Runs a training: checks the folder, opens the GPU, shows progress, saves on Ctrl-C and says how to continue, sums up.
 *
 * @returns the exit status
 * @throws {TilereelError} if the folder does not fit, or as the training does
 */
export async function runTrainingCommand<Step extends LoggedStep>(
  values: TrainingValues & LongRunOptions["values"] & {
    readonly seed?: number;
    readonly precision?: "auto" | Operands;
  },
  { defaults, kind, stopping, plan, open }: TrainingCommand<Step>,
): Promise<number> {
  const { out = defaults.out, steps = defaults.steps, seed = 0, resume = false, json = false, quiet = false } = values;
  const { precision = "auto" } = values;
  const { "checkpoint-every": checkpointEvery = defaults.checkpointEvery } = values;
  const files = trainingFiles(out, defaults.result);
  await checkTrainingFolder(out, resume);
  for (const file of Object.values(files)) await checkWritable(file, { asFile: true });
  using work = await openLongRun({ quiet: quiet || json, values, precision, stopping });
  const { onProgress, say, signal } = work;
  const stopped = (step: number, sentence: string, resume: boolean): number => {
    const next = [commandLine(resume)];
    say(withCommands(`${sentence} Continue with`, next));
    if (json) console.log(JSON.stringify({ out, stopped: true, step, steps, next }));
    return work.status ?? 1;
  };
  if (values["dry-run"]) {
    printPlan(await plan(work.gpu), { steps, out, json, say });
    return 0;
  }
  using cleanUp = new DisposableStack();
  const training = await work.unlessStopped(open(work, cleanUp));
  if (!training) return stopped(0, "Stopped while samples were made; the finished ones are kept.", resume);
  const start = performance.now();
  let detail: string | undefined;
  const progress = (done: number) => onProgress({ stage: "train", done, total: steps, ...detail && { detail } });
  const done = await training.train({
    ...{ seed, steps, folder: out, checkpointEvery, resume, signal },
    onStart: progress,
    onStep: (step) => {
      detail = training.figures(step);
      progress(step.step);
    },
  }, progress);
  if (done < steps) {
    return stopped(done, `Stopped after ${done} of ${steps} steps, which are saved in ${files.checkpoint}.`, true);
  }
  const seconds = (performance.now() - start) / 1000, file = files.result;
  const log = await TrainingLog.read<Step>(files.log);
  const means = `means of the first and the last ${log.window === 1 ? "step" : `${log.window} steps`}`;
  const summary = await training.summarize({ file, steps, log, means });
  printSummary(
    {
      ...summary,
      facts: { [kind]: file, steps, seconds, window: log.window, ...summary.facts },
      lines: [`${file}: ${steps} steps in ${formatDuration(seconds)}`, ...summary.lines],
      invitation: "Compare it with full attention, then use it",
    },
    json,
    say,
  );
  return 0;
}
