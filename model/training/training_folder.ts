/**
 * The folder that a training writes to.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { existsToRead, fileError } from "../files/file_error.ts";

/** The files of every training folder, beside the trained result. */
export interface TrainingFiles {
  /** The checkpoint from which training resumes. */
  readonly checkpoint: string;
  /** The log, one line per step. */
  readonly log: string;
}

/** The files of a training folder. */
export function trainingFilesIn(folder: string): TrainingFiles {
  return { checkpoint: `${folder}/checkpoint.safetensors`, log: `${folder}/metrics.jsonl` };
}

/**
 * Checks that the folder is suitable to start or to resume, before any slow work.
 *
 * @throws {TilereelError} if it contains a training that would be lost, or none to resume
 */
export async function checkTrainingFolder(folder: string, resume: boolean): Promise<void> {
  const { checkpoint } = trainingFilesIn(folder);
  const there = await existsToRead(checkpoint);
  if (resume && !there) {
    throw new TilereelError(`${checkpoint} does not exist, so there is no training to resume; leave out --resume`);
  }
  if (!resume && there) {
    throw new TilereelError(`${folder} already holds a training; continue it with --resume, or name another --out`);
  }
}

/**
 * As {@link checkTrainingFolder}, and creates the folder if necessary.
 *
 * @throws {TilereelError} if it does not fit or cannot be made
 */
export async function openTrainingFolder(folder: string, resume: boolean): Promise<void> {
  await checkTrainingFolder(folder, resume);
  await Deno.mkdir(folder, { recursive: true }).catch((error) => {
    throw fileError(folder, "written", error);
  });
}
