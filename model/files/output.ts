import { basename, dirname, join, resolve } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { removeAbandoned, replaceFile } from "../../gpu/native/replace_file.ts";
import { temporaryName } from "../../gpu/native/temporary_name.ts";
import { exists, isDiskFull, isNotFound, systemReason } from "./file_error.ts";

/**
 * Makes the file or folder `path`, which `write` makes under the temporary name that it is given: see
 * {@link replaceFile}. If `path` is a link, what it links to is replaced.
 *
 * @throws {TilereelError} if the disk is full or the place cannot be written
 */
export async function writeAtomically(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  let temporary = path;
  try {
    await replaceFile(await placeOf(resolve(path)), (name) => write(temporary = name));
  } catch (error) {
    throw outputError(underFinalName(error, temporary, path), path);
  }
}

/** What is written into a folder under way is called as it will be. */
function underFinalName(error: unknown, temporary: string, path: string): unknown {
  if (!(error instanceof TilereelError) || !error.message.includes(temporary)) return error;
  return new TilereelError(error.message.replaceAll(temporary, path.replace(/[\\/]$/, "")), { cause: error });
}

/**
 * Checks that `path` could be made, without making it or the folders that lead there: before hours of work, not after.
 * Removes what killed runs left unfinished beside it.
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
    removeAbandoned(folder);
    const probe = join(folder, temporaryName("tilereel"));
    // Not asynchronous: Ctrl-C cannot come between.
    Deno.writeFileSync(probe, new Uint8Array(0), { createNew: true });
    Deno.removeSync(probe);
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
    throw new TilereelError(`${path} is a broken link: remove it, or name another file`);
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
