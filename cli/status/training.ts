import { join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { openSafetensors } from "../../model/checkpoint/safetensors.ts";
import { fileError, isNotFound } from "../../model/files/file_error.ts";
import { trainingFiles } from "../../model/training/training_folder.ts";
import { lastStep } from "../../model/training/step_log.ts";

/** A training, as its folder shows it. */
export interface TrainingReport {
  /** The last step that was logged; 0 before the first. */
  readonly step: number;
  /** When that was, in seconds since 1970. */
  readonly updated: number;
  /** The step of the checkpoint, from which it can be resumed, or why there is none. */
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
  const found = await Deno.stat(log).catch((error) => {
    if (!isNotFound(error)) throw fileError(log, "read", error);
  });
  if (!found?.isFile) return undefined;
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  const result = names.find((name) =>
    name.endsWith(".safetensors") && !name.startsWith(".") && join(folder, name) !== join(checkpoint)
  );
  return {
    step: await lastStep(log),
    updated: Math.round((found.mtime?.getTime() ?? 0) / 1000),
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
