import { fileError, isNotFound } from "../files/file_error.ts";
import { writeAtomically } from "../files/output.ts";

/** The minimum contents of a line of the log, a file with one JSON object per step, one on each line. */
export interface LoggedStep {
  /** Counts from 1. */
  readonly step: number;
  /** The number of steps that the training was to have. Only the log has it. */
  readonly steps?: number;
}

/**
 * Cuts the log back to the steps up to `last`, so that training can resume from there. Steps after the last checkpoint
 * will be done and logged again. An incomplete line, and everything after it, is removed.
 *
 * @throws {TilereelError} if the file cannot be read or written
 */
export async function cutLog(path: string, last: number): Promise<void> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (isNotFound(error)) return;
    throw fileError(path, "read", error);
  }
  const lines = text.split("\n");
  const bad = lines.findIndex((line) => !(stepOf(line) <= last));
  const kept = lines.slice(0, bad === -1 ? lines.length : bad).map((line) => `${line}\n`).join("");
  if (kept === text) return;
  await writeAtomically(path, (temporary) => Deno.writeTextFile(temporary, kept));
}

/**
 * Adds a line.
 *
 * @throws {TilereelError} if the file cannot be written
 */
export async function logStep(path: string, step: LoggedStep): Promise<void> {
  try {
    await Deno.writeTextFile(path, `${JSON.stringify(step)}\n`, { append: true });
  } catch (error) {
    throw fileError(path, "written", error);
  }
}

/** The step of a line, or NaN if it is not a valid line. */
function stepOf(line: string): number {
  try {
    const { step } = JSON.parse(line);
    return typeof step === "number" ? step : NaN;
  } catch {
    return NaN;
  }
}
