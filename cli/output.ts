/**
 * Output that appears under its name only when it is complete: written beside it under a temporary name, then renamed.
 *
 * @module
 */
import { basename, dirname, join, resolve } from "node:path";
import { TilereelError } from "../errors.ts";

/** Temporary files and folders of outputs that are being written now. */
const unfinished = new Set<string>();

/**
 * Makes the file or folder `path`: `write` makes it under the temporary name that it is given, in the same folder
 * (which is created), and it is renamed once `write` is through. When anything fails nothing is left behind. A file of
 * that name is replaced; a folder of that name is only replaced when it is empty.
 *
 * @throws {TilereelError} when the disk is full or the place cannot be written
 */
export async function writeAtomically(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const target = resolve(path);
  const temporary = join(dirname(target), `.${basename(target).slice(0, 100)}.${crypto.randomUUID().slice(0, 8)}.part`);
  unfinished.add(temporary);
  try {
    await Deno.mkdir(dirname(target), { recursive: true });
    await write(temporary);
    await Deno.rename(temporary, target);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw outputError(error, path);
  } finally {
    unfinished.delete(temporary);
  }
}

/** Removes what is being written now, at once: for the moment before the program is ended from outside. */
export function removeUnfinished(): void {
  for (const temporary of unfinished) {
    try {
      Deno.removeSync(temporary, { recursive: true });
    } catch {
      // Not made yet, or gone already.
    }
  }
}

/**
 * Checks that `path` could be made, without making it or the folders that lead there: before hours of work, not after.
 *
 * @throws {TilereelError} when it could not
 */
export async function checkWritable(path: string): Promise<void> {
  let folder = dirname(resolve(path));
  try {
    while (!await exists(folder)) folder = dirname(folder);
    // Asking after the name itself shows whether it is one that can be.
    await exists(join(folder, basename(resolve(path))));
    const probe = join(folder, `.tilereel-${crypto.randomUUID().slice(0, 8)}.part`);
    unfinished.add(probe);
    try {
      await Deno.writeFile(probe, new Uint8Array(0), { createNew: true });
      await Deno.remove(probe);
    } finally {
      unfinished.delete(probe);
    }
  } catch (error) {
    throw outputError(error, path);
  }
}

/** Whether there is a file or folder of that name. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Says in one sentence why `path` could not be written, where the reason lies outside the program. */
function outputError(error: unknown, path: string): unknown {
  if (error instanceof TilereelError || !(error instanceof Error)) return error;
  const reason = REASONS[(error as Error & { code?: string }).code ?? ""];
  return reason === undefined ? error : new TilereelError(`cannot write ${path}: ${reason}`, { cause: error });
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: "no permission to write there; name another place with --out",
  EDQUOT: "your disk quota is used up; free some space or name another place with --out",
  EEXIST: "something of that name is in the way; name another place with --out",
  EFBIG: "the file would be larger than is allowed there; name another place with --out",
  EISDIR: "that is a folder; name a file in it with --out",
  ELOOP: "its links lead nowhere; name another place with --out",
  ENAMETOOLONG: "that name is too long; name a shorter one with --out",
  ENOENT: "nothing can be made there; name another place with --out",
  ENOSPC: "the disk is full; free some space or name another place with --out",
  ENOTDIR: "a part of that path is a file, not a folder; name another place with --out",
  ENOTEMPTY: "that folder exists and is not empty; remove it or name another with --out",
  EPERM: "no permission to write there; name another place with --out",
  EROFS: "that disk is read-only; name another place with --out",
};
