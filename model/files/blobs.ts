import { TilereelError } from "../../gpu/common/errors.ts";
import { fileError } from "./file_error.ts";
import { folderOf } from "./memory.ts";
import type { ByteSource, FileStore } from "./store.ts";

/**
 * A folder of blobs, such as the files that are dropped on a page or chosen there. Only what is asked for is read.
 * A single dropped file is `blobFolder(new Map([[file.name, file]]), "dropped").file(file.name)`.
 *
 * @param blobs by path in the folder: of a file input, `webkitRelativePath` behind the folder's name
 * @param path names the folder in messages
 */
export function blobFolder(blobs: ReadonlyMap<string, Blob>, path: string): FileStore {
  const files = [...blobs].map(([name, blob]) => [name, () => blobSource(`${path}/${name}`, blob)] as const);
  return folderOf(new Map(files), path);
}

function blobSource(path: string, blob: Blob): ByteSource {
  const read = async (start: number, into: Uint8Array) => {
    const part = blob.slice(start, start + into.length);
    if (part.size < into.length) throw new TilereelError(`${path} ended while it was read`);
    try {
      into.set(new Uint8Array(await part.arrayBuffer()));
    } catch (error) {
      throw fileError(path, "read", error);
    }
  };
  return { path, size: blob.size, read, [Symbol.dispose]: () => {} };
}
