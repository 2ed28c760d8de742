import { basename } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { openSafetensors } from "../../model/checkpoint/safetensors.ts";
import { isNotFound } from "../../model/files/file_error.ts";
import { trainingFiles } from "../../model/training/training_folder.ts";
import { trainingObject } from "../serve/trainings/training_runs.ts";

/** A training, as its folder shows it. */
export interface TrainingReport {
  readonly status: "done" | "running" | "stopped";
  /** The last step that was logged; 0 before the first. */
  readonly step: number;
  /** The number of steps that it was to have, if the log says it. */
  readonly steps?: number;
  /** Until the last step, if it runs. */
  readonly secondsLeft?: number;
  /** When something was logged last, in seconds since 1970. */
  readonly updated: number;
  /** The step of the checkpoint, from which it can be resumed, or why that is impossible. */
  readonly checkpoint?: number;
  readonly broken?: string;
  /** The name of the result, once all steps are done. */
  readonly result?: string;
}

/**
 * How far the training in a folder is; undefined if there is none.
 *
 * @throws {TilereelError} if the folder cannot be read
 */
export async function readTraining(folder: string): Promise<TrainingReport | undefined> {
  const { checkpoint, log } = trainingFiles(folder, "");
  const training = await trainingObject({ id: "", name: folder, log });
  if (!training) return undefined;
  const { state, step, steps, seconds_left: left, updated_at: updated } = training;
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  const result = names.find((name) => /^[^.].*\.safetensors$/.test(name) && name !== basename(checkpoint));
  return {
    // Of logs that do not say how many steps there were to be, the result tells.
    status: result === undefined ? state as TrainingReport["status"] : "done",
    ...{ step, updated },
    ...steps !== null && { steps },
    ...left !== null && { secondsLeft: Math.round(left) },
    ...await stepOfCheckpoint(checkpoint),
    ...result !== undefined && { result },
  };
}

async function stepOfCheckpoint(path: string): Promise<Pick<TrainingReport, "checkpoint" | "broken">> {
  try {
    using source = await openSafetensors(path);
    const step = Number(source.metadata.step);
    return Number.isInteger(step) ? { checkpoint: step } : { broken: `${path} is not a checkpoint` };
  } catch (error) {
    if (!(error instanceof TilereelError)) throw error;
    return isNotFound(error) ? {} : { broken: error.message };
  }
}
