/**
 * Names of unfinished files, which say who writes them: `.NAME.PLACE-PID-START.RANDOM.part`. So a later run can remove
 * what a killed one left behind, and leaves alone what a living one is writing.
 *
 * @module
 */
import { isRunning, processName } from "./processes.ts";

const NAME = /^\..*\.([0-9a-f]{8})-(\d+)-(\d+)\.[0-9a-f]{8}\.part$/s;
/** The most characters of the target's name in it: names may have 255 bytes. */
const LONGEST_STEM = 50;
/** Milliseconds after which an unfinished file of another machine is one of a dead process: writing takes minutes. */
const ABANDONED = 24 * 3600 * 1000;

/** A new name for the unfinished file or folder that will be called `name`. */
export function temporaryName(name: string): string {
  return `.${name.slice(0, LONGEST_STEM).toWellFormed()}.${processName()}.${crypto.randomUUID().slice(0, 8)}.part`;
}

/**
 * Whether a file's name is that of an unfinished file whose writer is dead.
 *
 * @param age milliseconds since it was last written to; only asked if its writer ran on another machine
 */
export function isAbandoned(name: string, age: () => number): boolean {
  const [, place, pid, start] = NAME.exec(name) ?? [];
  if (place === undefined) return false;
  return !(isRunning(`${place}-${pid}-${start}`) ?? age() <= ABANDONED);
}

/** Whether a file's name is that of an unfinished file. */
export function isTemporary(name: string): boolean {
  return NAME.test(name);
}
