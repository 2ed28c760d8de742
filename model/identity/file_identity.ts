/**
 * How the record of a clip names files. The record is shared with the clip, so it must not contain the user's folders.
 *
 * @module
 */
import { basename, isAbsolute, normalize } from "node:path";
import { fileDigest } from "./digest.ts";

/** A path below the working folder as it was given; of any other path only the name. */
export function sharedName(path: string): string {
  const plain = normalize(path).replaceAll("\\", "/").replace(/\/$/, "");
  return isAbsolute(path) || plain.startsWith("..") || plain === "." ? basename(path) : plain;
}

/**
 * A file under `key`, and its digest under `keyDigest`.
 *
 * @param wanted what is expected at the path, for messages
 * @throws {TilereelError} if it cannot be read
 */
export async function fileIdentity<K extends string>(
  key: K,
  path: string | undefined,
  wanted?: string,
): Promise<{ readonly [name in K | `${K}Digest`]?: string }> {
  if (path === undefined) return {};
  return { [key]: sharedName(path), [`${key}Digest`]: await fileDigest(path, wanted) } as {
    [name in K | `${K}Digest`]: string;
  };
}
