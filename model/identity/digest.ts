/**
 * Distinguishes models without reading them completely.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { fileAt, folderAt } from "../files/disk.ts";
import type { FileStore, StoredFile } from "../files/store.ts";

/** Files up to this size are read completely. */
const SMALL_FILE = 2 ** 20;
/**
 * For larger files, the number of positions that are read, and the bytes at each. Training changes weights everywhere.
 */
const PLACES = 64;
const PLACE_BYTES = 2 ** 12;

/**
 * A digest of model parts: the names and sizes of their files, all bytes of the small ones (configs among them) and
 * samples of the large ones. A copy of a model has the same digest; other weights have another.
 *
 * @param parts folders of parts, or single files
 * @throws {TilereelError} if a file cannot be read
 */
export async function modelDigest(parts: readonly (string | FileStore)[]): Promise<string> {
  const hash = createHash("sha256");
  for (const part of parts) {
    for (const file of await filesOf(part)) {
      hash.update(`${file.name}\n`);
      await addBytes(hash, file);
    }
    hash.update("\n");
  }
  return hash.digest("hex").slice(0, 32);
}

/**
 * A digest of one file, whatever its name.
 *
 * @throws {TilereelError} if it cannot be read
 */
export async function fileDigest(file: string | StoredFile, wanted?: string): Promise<string> {
  const hash = createHash("sha256");
  await addBytes(hash, fileAt(file), wanted);
  return hash.digest("hex").slice(0, 16);
}

async function filesOf(part: string | FileStore): Promise<StoredFile[]> {
  const folder = folderAt(part);
  if (typeof part === "string" && await folder.kind() !== "folder") return [fileAt(part)];
  const names = (await folder.list()).filter((name) => !name.startsWith(".")).sort();
  const kinds = await Promise.all(names.map((name) => folder.file(name).kind()));
  return names.filter((_, i) => kinds[i] === "file").map((name) => folder.file(name));
}

async function addBytes(hash: Hash, stored: StoredFile, wanted?: string): Promise<void> {
  using file = await stored.open(wanted);
  const { size: length } = file;
  hash.update(`${length}\n`);
  const small = length <= SMALL_FILE;
  const bytes = new Uint8Array(small ? length : PLACE_BYTES);
  for (let i = 0, places = small ? 1 : PLACES; i < places; i++) {
    await file.read(small ? 0 : Math.floor(i * (length - PLACE_BYTES) / (PLACES - 1)), bytes);
    hash.update(bytes);
  }
}
