/**
 * How the record of a clip names files. The record is shared with the clip, so it must not contain the user's folders.
 *
 * @module
 */
import { fileAt } from "../files/disk.ts";
import { baseName, type StoredFile } from "../files/store.ts";
import { fileDigest } from "./digest.ts";

/** A path below the working folder as it was given; of any other path, and of an address, only the name. */
export function sharedName(path: string): string {
  const parts: string[] = [];
  for (const part of path.split(/[\\/]/)) {
    if (part === ".." && parts.length > 0 && parts.at(-1) !== "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  const isBelow = !/^(\w+:)?[\\/]/.test(path) && parts.length > 0 && parts[0] !== "..";
  return isBelow ? parts.join("/") : baseName(path);
}

/** A file, or several in an order that matters. */
type Files = string | StoredFile | readonly (string | StoredFile)[];
/** As many texts. */
type Texts<F extends Files> = F extends readonly unknown[] ? readonly string[] : string;

/**
 * A file under `key`, and its digest under `keyDigest`; of several files a list each.
 *
 * @param wanted what is expected there, for messages
 * @throws {TilereelError} if it cannot be read
 */
export async function fileIdentity<K extends string, F extends Files>(
  key: K,
  files: F | undefined,
  wanted?: string,
): Promise<{ readonly [name in K | `${K}Digest`]?: Texts<F> }> {
  if (files === undefined) return {};
  const all: readonly (string | StoredFile)[] = Array.isArray(files) ? files : [files];
  const names = all.map((file) => sharedName(fileAt(file).path));
  const digests = await Promise.all(all.map((file) => fileDigest(file, wanted)));
  const listed = (texts: readonly string[]) => (Array.isArray(files) ? texts : texts[0]) as Texts<F>;
  return { [key]: listed(names), [`${key}Digest`]: listed(digests) } as { [name in K | `${K}Digest`]: Texts<F> };
}
