/**
 * How the record of a clip names files. The record is shared with the clip, so it must not contain the user's folders.
 *
 * @module
 */
import { fileAt } from "../files/disk.ts";
import { baseName, type StoredFile } from "../files/store.ts";
import { fileDigest } from "./digest.ts";

/** A path below the working folder as it was given; of any other path only the name. */
export function sharedName(path: string): string {
  const parts: string[] = [];
  for (const part of path.split(/[\\/]/)) {
    if (part === ".." && parts.length > 0 && parts.at(-1) !== "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  const isBelow = !/^([A-Za-z]:)?[\\/]/.test(path) && parts.length > 0 && parts[0] !== "..";
  return isBelow ? parts.join("/") : baseName(path);
}

/**
 * A file under `key`, and its digest under `keyDigest`.
 *
 * @param wanted what is expected there, for messages
 * @throws {TilereelError} if it cannot be read
 */
export async function fileIdentity<K extends string>(
  key: K,
  file: string | StoredFile | undefined,
  wanted?: string,
): Promise<{ readonly [name in K | `${K}Digest`]?: string }> {
  if (file === undefined) return {};
  return { [key]: sharedName(fileAt(file).path), [`${key}Digest`]: await fileDigest(file, wanted) } as {
    [name in K | `${K}Digest`]: string;
  };
}
