import { fileAt, fileOf, folderAt } from "../files/disk.ts";
import type { FileStore, StoredFile } from "../files/store.ts";

/** Files up to this size are read completely. */
const SMALL_FILE = 2 ** 20;
/** For larger files, the number of positions that are read, and the bytes at each: training changes all weights. */
const PLACES = 64;
const PLACE_BYTES = 2 ** 12;

/**
 * A digest of model parts: the names and sizes of their files, all bytes of the small ones (configs among them) and
 * samples of the large ones. A copy of a model has the same digest; other weights have another.
 *
 * @param parts folders of parts, or single files
 * @throws {TilereelError} if a file cannot be read
 */
export async function modelDigest(parts: readonly (string | FileStore | StoredFile)[]): Promise<string> {
  const pieces: BlobPart[] = [];
  for (const part of parts) {
    for (const file of await filesOf(part)) pieces.push(`${file.name}\n`, ...await piecesOf(file));
    pieces.push("\n");
  }
  return (await sha256(pieces)).slice(0, 16);
}

/**
 * A digest of one file, whatever its name.
 *
 * @throws {TilereelError} if it cannot be read
 */
export async function fileDigest(file: string | StoredFile, wanted?: string): Promise<string> {
  return (await sha256(await piecesOf(fileAt(file), wanted))).slice(0, 16);
}

/** SHA-256 of texts and bytes, one behind the other, in hexadecimal digits. */
export async function sha256(pieces: BlobPart[]): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await new Blob(pieces).arrayBuffer());
  return new Uint8Array(digest).toHex();
}

async function filesOf(part: string | FileStore | StoredFile): Promise<StoredFile[]> {
  const folder = typeof part === "string" ? folderAt(part) : part;
  if (!("list" in folder) || await folder.kind() !== "folder") return [fileOf(folder)];
  const names = (await folder.list()).filter((name) => !name.startsWith(".")).sort();
  const kinds = await Promise.all(names.map((name) => folder.file(name).kind()));
  return names.filter((_, i) => kinds[i] === "file").map((name) => folder.file(name));
}

/** What of a file is digested: its size, and its bytes or samples of them. */
async function piecesOf(stored: StoredFile, wanted?: string): Promise<BlobPart[]> {
  using file = await stored.open(wanted);
  const { size } = file, small = size <= SMALL_FILE, places = small ? 1 : PLACES;
  const bytes = new Uint8Array(small ? size : places * PLACE_BYTES), each = bytes.length / places;
  for (let i = 0; i < places; i++) {
    const start = small ? 0 : Math.floor(i * (size - PLACE_BYTES) / (PLACES - 1));
    await file.read(start, bytes.subarray(i * each, (i + 1) * each));
  }
  return [`${size}\n`, bytes];
}
