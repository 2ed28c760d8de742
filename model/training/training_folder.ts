/**
 * The folder that a training writes to.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";
import { existsToRead, fileError } from "../checkpoint/file_error.ts";

/** What every training folder holds, besides what is trained. */
export interface TrainingFiles {
  /** What goes on from here. */
  readonly checkpoint: string;
  /** A line a step. */
  readonly log: string;
}

/** The files of a training folder. */
export function trainingFilesIn(folder: string): TrainingFiles {
  return { checkpoint: `${folder}/checkpoint.safetensors`, log: `${folder}/metrics.jsonl` };
}

/**
 * Checks, before anything slow is done, that the folder fits the wish to start or to go on.
 *
 * @throws {TilereelError} if it holds a training that would be lost, or none to go on with
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
 * As {@link checkTrainingFolder}; makes the folder if need be.
 *
 * @throws {TilereelError} if it does not fit or cannot be made
 */
export async function openTrainingFolder(folder: string, resume: boolean): Promise<void> {
  await checkTrainingFolder(folder, resume);
  await Deno.mkdir(folder, { recursive: true }).catch((error) => {
    throw fileError(folder, "written", error);
  });
}
