/**
 * Distinguishes models without reading them completely.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { basename, join } from "node:path";
import { fileError } from "../files/file_error.ts";
import { RandomAccessFile } from "../files/random_access_file.ts";

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
 * @param paths folders of parts, or single files
 * @throws {TilereelError} if a file cannot be read
 */
export async function modelDigest(paths: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const path of paths) {
    for (const file of await filesOf(path)) await addFile(hash, file);
    hash.update("\n");
  }
  return hash.digest("hex").slice(0, 32);
}

/**
 * A digest of one file, whatever its name.
 *
 * @throws {TilereelError} if it cannot be read
 */
export async function fileDigest(path: string, wanted?: string): Promise<string> {
  const hash = createHash("sha256");
  await addBytes(hash, path, wanted);
  return hash.digest("hex").slice(0, 16);
}

async function filesOf(path: string): Promise<string[]> {
  try {
    if (!(await Deno.stat(path)).isDirectory) return [path];
    const files: string[] = [];
    for await (const { name, isDirectory } of Deno.readDir(path)) {
      if (!isDirectory && !name.startsWith(".")) files.push(join(path, name));
    }
    return files.sort();
  } catch (error) {
    throw fileError(path, "read", error);
  }
}

async function addFile(hash: Hash, path: string): Promise<void> {
  hash.update(`${basename(path)}\n`);
  await addBytes(hash, path);
}

async function addBytes(hash: Hash, path: string, wanted?: string): Promise<void> {
  using file = await RandomAccessFile.open(path, wanted);
  const { length } = file;
  hash.update(`${length}\n`);
  const small = length <= SMALL_FILE;
  const bytes = new Uint8Array(small ? length : PLACE_BYTES);
  for (let i = 0, places = small ? 1 : PLACES; i < places; i++) {
    await file.read(small ? 0 : Math.floor(i * (length - PLACE_BYTES) / (PLACES - 1)), bytes);
    hash.update(bytes);
  }
}
