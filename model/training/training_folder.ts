import { TilereelError } from "../../gpu/common/errors.ts";
import { fileAt } from "../files/disk.ts";
import { fileError } from "../files/file_error.ts";

/**
 * The files of a training folder: the checkpoint from which training resumes, the log with one line per step, and the
 * result, once all steps are done.
 *
 * @param result the name of the result's file
 */
export function trainingFiles(folder: string, result: string): Record<"checkpoint" | "log" | "result", string> {
  return {
    checkpoint: `${folder}/checkpoint.safetensors`,
    log: `${folder}/metrics.jsonl`,
    result: `${folder}/${result}`,
  };
}

/**
 * Checks that the folder is suitable to start or to resume, before any slow work.
 *
 * @throws {TilereelError} if it contains a training that would be lost, or none to resume
 */
export async function checkTrainingFolder(folder: string, resume: boolean): Promise<void> {
  const { checkpoint } = trainingFiles(folder, "");
  const there = await fileAt(checkpoint).kind() !== undefined;
  if (resume && !there) {
    throw new TilereelError(`${checkpoint} does not exist, so there is no training to resume; start a new one`);
  }
  if (!resume && there) {
    throw new TilereelError(`${folder} already holds a training; resume it, or choose another folder`);
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
