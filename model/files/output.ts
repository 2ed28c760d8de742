/**
 * Output that appears under its name only when it is complete: written beside it under a temporary name, then renamed.
 *
 * @module
 */
import { basename, dirname, join, resolve } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { exists, isDiskFull, isNotFound, systemReason } from "./file_error.ts";

/** Temporary files and folders of outputs that are being written now. */
const unfinished = new Set<string>();

/**
 * Makes the file or folder `path`. `write` makes it under the temporary name that it is given, in the same folder, which
 * is created if needed; then it is renamed. If anything fails, nothing is left behind. A file of that name is replaced,
 * or what it links to; a folder of that name is only replaced when it is empty.
 *
 * @throws {TilereelError} if the disk is full or the place cannot be written
 */
export async function writeAtomically(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const target = await placeOf(resolve(path)).catch((error) => {
    throw outputError(error, path);
  });
  const temporary = join(dirname(target), `.${basename(target).slice(0, 100)}.${crypto.randomUUID().slice(0, 8)}.part`);
  unfinished.add(temporary);
  try {
    await Deno.mkdir(dirname(target), { recursive: true });
    await write(temporary);
    if (!await isFolder(temporary)) {
      // A full disk may be reported only here.
      using file = await Deno.open(temporary, { write: true });
      await file.sync();
    }
    await Deno.rename(temporary, target);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw outputError(underFinalName(error, temporary, path), path);
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
export async function checkWritable(path: string, { asFile = false } = {}): Promise<void> {
  const target = resolve(path);
  try {
    let folder = dirname(target);
    if (await exists(folder)) {
      folder = dirname(await placeOf(target));
      if (asFile && await isFolder(path)) {
        throw new TilereelError(
          `cannot write ${path}: that is a folder, where a file would be written; remove it, or name another place`,
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
    throw outputError(error, path);
  }
}

/** Whether there is a folder of that name. */
export async function isFolder(path: string): Promise<boolean> {
  return await Deno.stat(path).then((info) => info.isDirectory, () => false);
}

/**
 * Where to write so that `path` is replaced: the path itself or, if it is a link, the link's target.
 *
 * @throws {TilereelError} if a link has no target, or the target must not be replaced: a device, a pipe
 */
export async function placeOf(path: string): Promise<string> {
  const own = await Deno.lstat(path).catch(orNothing);
  if (!own) return path;
  if (!own.isSymlink) return replaceable(path, own);
  const place = await Deno.realPath(path).catch(orNothing);
  if (place === undefined) {
    throw new TilereelError(`${path} is a link that leads nowhere: remove it, or name another file`);
  }
  return replaceable(place, await Deno.stat(place));
}

function replaceable(path: string, { isFile, isDirectory }: Deno.FileInfo): string {
  if (isFile || isDirectory) return path;
  throw new TilereelError(`${path} is a device or a pipe, which would be replaced: name a file`);
}

function orNothing(error: unknown): undefined {
  if (!isNotFound(error)) throw error;
}

/** Says in one sentence why `path` could not be written, if the reason lies outside the program. */
function outputError(error: unknown, path: string): unknown {
  const reason = systemReason(error);
  if (reason === undefined || error instanceof TilereelError) return error;
  const remedy = isDiskFull(error) ? "free some space or " : "";
  return new TilereelError(`cannot write ${path}: ${reason}; ${remedy}name another place`, { cause: error });
}
