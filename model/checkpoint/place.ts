/**
 * Finds the path to write to when a file replaces another.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";

/**
 * Returns the path itself or, if it is a link, the link's target.
 *
 * @throws {TilereelError} when a link has no target, or the target must not be replaced: a device, a pipe
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
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
