/**
 * Output that appears under its name only when it is complete: written beside it under a temporary name, then renamed.
 *
 * @module
 */
import { basename, dirname, join, resolve } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { exists, isDiskFull, systemReason } from "./file_error.ts";
import { placeOf } from "../checkpoint/place.ts";

const OUT = "--out";

/** Temporary files and folders of outputs that are being written now. */
const unfinished = new Set<string>();

/** What is said of an output that cannot be written. */
export interface OutputOptions {
  /** The option that names it. */
  readonly option?: string;
}

/**
 * Makes the file or folder `path`: `write` makes it under the temporary name that it is given, in the same folder
 * (which is created), and it is renamed once `write` is through. When anything fails nothing is left behind. A file of
 * that name is replaced, or what it links to; a folder of that name is only replaced when it is empty.
 *
 * @throws {TilereelError} when the disk is full or the place cannot be written
 */
export async function writeAtomically(
  path: string,
  write: (temporary: string) => Promise<void>,
  options: OutputOptions = {},
): Promise<void> {
  const target = await placeOf(resolve(path)).catch((error) => {
    throw outputError(error, path, options);
  });
  const temporary = join(dirname(target), `.${basename(target).slice(0, 100)}.${crypto.randomUUID().slice(0, 8)}.part`);
  unfinished.add(temporary);
  try {
    await Deno.mkdir(dirname(target), { recursive: true });
    await write(temporary);
    await Deno.rename(temporary, target);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw outputError(underFinalName(error, temporary, path), path, options);
  } finally {
    unfinished.delete(temporary);
  }
}

/** What is written into a folder under way is called as it will be. */
function underFinalName(error: unknown, temporary: string, path: string): unknown {
  if (!(error instanceof TilereelError) || !error.message.includes(temporary)) return error;
  return new TilereelError(error.message.replaceAll(temporary, path.replace(/[\\/]$/, "")), { cause: error });
}

/** Removes all unfinished files at once. It is called just before the program is ended from outside. */
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
 * @param asFile a folder of that name is in the way
 * @throws {TilereelError} when it could not
 */
export async function checkWritable(
  path: string,
  { asFile = false, ...options }: OutputOptions & { readonly asFile?: boolean } = {},
): Promise<void> {
  const { option = OUT } = options, target = resolve(path);
  try {
    let folder = dirname(target);
    if (await exists(folder)) {
      folder = dirname(await placeOf(target));
      if (asFile && await isFolder(path)) {
        throw new TilereelError(
          `cannot write ${path}: that is a folder, where a file would be written; remove it, or name another place with ` +
            option,
        );
      }
    } else {
      while (!await exists(folder)) folder = dirname(folder);
      // Asking after the name shows whether it is one that can be.
      await exists(join(folder, basename(target)));
    }
    const probe = join(folder, `.tilereel-${crypto.randomUUID().slice(0, 8)}.part`);
    unfinished.add(probe);
    try {
      await Deno.writeFile(probe, new Uint8Array(0), { createNew: true });
      await Deno.remove(probe);
    } finally {
      unfinished.delete(probe);
    }
  } catch (error) {
    throw outputError(error, path, options);
  }
}

/** Whether there is a folder of that name. */
export async function isFolder(path: string): Promise<boolean> {
  return await Deno.stat(path).then((info) => info.isDirectory, () => false);
}

/** Says in one sentence why `path` could not be written, where the reason lies outside the program. */
function outputError(error: unknown, path: string, { option = OUT }: OutputOptions): unknown {
  const reason = systemReason(error);
  if (reason === undefined || error instanceof TilereelError) return error;
  const remedy = isDiskFull(error) ? "free some space or " : "";
  return new TilereelError(`cannot write ${path}: ${reason}; ${remedy}name another place with ${option}`, {
    cause: error,
  });
}
