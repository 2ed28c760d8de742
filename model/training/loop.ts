import { TilereelError } from "../../gpu/common/errors.ts";
import { checkWhole } from "../checkpoint/checksum.ts";
import { openSafetensors } from "../checkpoint/safetensors.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { checkpointMetadata, checkpointStep, type TrainingIdentity } from "./identity.ts";
import { NonFiniteError } from "./non_finite_error.ts";
import { cutLog, type LoggedStep, logStep } from "./step_log.ts";
import { openTrainingFolder, trainingFiles } from "./training_folder.ts";
import type { TrainingOptions } from "./training_options.ts";

/** One kind of training, as the loop runs it. */
export interface TrainingKind<Step extends LoggedStep> {
  /** The name of the result's file in the folder. */
  readonly result: string;
  /** The options of this kind that affect the result, without `steps`: a training can be resumed with more steps. */
  readonly identity: TrainingIdentity;
  /**
   * Makes the state before the first step, or reads that of a checkpoint.
   *
   * @throws {TilereelError} if the checkpoint is damaged
   */
  open(checkpoint: TensorSource | undefined): Promise<TrainingState<Step>>;
}

/** The trained weights with their optimizer. It may hold memory until it is disposed of. */
export interface TrainingState<Step extends LoggedStep> extends Disposable {
  /** Whether a failed step leaves the state of the step before it, which can then be saved. */
  readonly failsWhole: boolean;
  /**
   * Takes steps until `signal` is aborted, then throws its reason.
   *
   * @param done the number of steps that are already done
   * @param onStep called after each step with its figures, and waited for
   * @throws {NonFiniteError} if a number is not finite
   */
  train(done: number, signal: AbortSignal, onStep: (step: Step) => Promise<void>): Promise<void>;
  /** Writes a checkpoint, which `open` reads. It loads like a result. */
  saveCheckpoint(path: string, metadata: Readonly<Record<string, string>>): Promise<void>;
  saveResult(path: string, metadata: Readonly<Record<string, string>>): Promise<void>;
}

/**
 * The loop that all trainings share. It resumes from a checkpoint, logs every step, saves checkpoints, ends early on
 * request, and writes the result.
 *
 * @returns the number of finished steps, smaller than requested if the training was ended early
 * @throws {TilereelError} if the folder does not fit (see `checkTrainingFolder`), its checkpoint is of another
 * training, a file cannot be written, or a number is not finite: then the step and, where it is known, the layer are
 * named, and the last checkpoint stays as it is
 */
export async function runTraining<Step extends LoggedStep>(
  kind: TrainingKind<Step>,
  options: TrainingOptions<Step>,
): Promise<number> {
  const { steps, folder, resume = false, checkpointEvery = 10, signal } = options;
  const files = trainingFiles(folder, kind.result), identity = { ...options.identity, ...kind.identity };
  await openTrainingFolder(folder, resume);
  const start = await openState(kind, resume ? files.checkpoint : undefined, identity);
  using state = start.state;
  let { step } = start;
  if (step > steps) {
    throw new TilereelError(
      `${files.checkpoint} is of step ${step}, but the training should end at step ${steps}; give a larger number of steps`,
    );
  }
  await cutLog(files.log, step);
  options.onStart?.(step);

  let saved = resume ? step : undefined;
  const save = async () => {
    if (saved === step) return;
    await state.saveCheckpoint(files.checkpoint, checkpointMetadata(step, identity)).catch(stoppedAt(step));
    saved = step;
  };
  if (step < steps && !signal?.aborted) {
    const ended = new AbortController(), stop = AbortSignal.any([ended.signal, ...signal ? [signal] : []]);
    try {
      await state.train(step, stop, async (figures) => {
        step = figures.step;
        await logStep(files.log, { ...figures, steps });
        options.onStep?.(figures);
        if (step % checkpointEvery === 0) await save();
        if (step === steps) ended.abort();
      });
    } catch (error) {
      if (!stop.aborted || error !== stop.reason) {
        // The steps until now are good, unless numbers are not finite. The error is thrown even if they cannot be saved.
        if (state.failsWhole && !(error instanceof NonFiniteError)) await save().catch(() => {});
        stoppedAt(step + 1)(error);
      }
    }
  }
  await save();
  if (step === steps) {
    const metadata = { steps: String(steps), options: JSON.stringify(identity) };
    await state.saveResult(files.result, metadata).catch(stoppedAt(step));
  }
  return step;
}

async function openState<Step extends LoggedStep>(
  kind: TrainingKind<Step>,
  path: string | undefined,
  identity: TrainingIdentity,
): Promise<{ state: TrainingState<Step>; step: number }> {
  if (path === undefined) return { step: 0, state: await kind.open(undefined) };
  using checkpoint = await openSafetensors(path);
  const step = checkpointStep(checkpoint, identity);
  await checkWhole(checkpoint);
  return { step, state: await kind.open(checkpoint) };
}

/** Throws an error again, with the step in words if a number was not finite. */
function stoppedAt(step: number): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof NonFiniteError)) throw error;
    throw new TilereelError(
      `training stopped at step ${step}: ${error.message}; train again with a lower learning rate, and if that does ` +
        `not help, look at the data`,
      { cause: error },
    );
  };
}
