import { TilereelError } from "../../gpu/common/errors.ts";
import { fileError, notFound } from "./file_error.ts";
import { folderOf } from "./memory.ts";
import { baseName, type ByteSource, type FileStore, type StoredFile } from "./store.ts";

/**
 * A folder at an address, read by ranges.
 *
 * @param address without a slash at its end: "https://huggingface.co/OWNER/MODEL/resolve/main"
 * @param files the paths of all files in it. Without them it cannot be listed: see {@link FileStore}
 */
export function httpFolder(address: string, files?: readonly string[]): FileStore {
  const folder = new HttpPath(address, undefined, "folder");
  return files ? folderOf(new Map(files.map((name) => [name, () => folder.file(name).open()])), address) : folder;
}

class HttpPath implements FileStore, StoredFile {
  constructor(
    readonly path: string,
    readonly parent: FileStore | undefined,
    private readonly as: "file" | "folder",
  ) {}

  get name(): string {
    return baseName(this.path);
  }

  async kind(): Promise<"file" | "folder" | undefined> {
    return this.as === "folder" ? "folder" : await this.#size() === undefined ? undefined : "file";
  }

  async open(wanted = "a file"): Promise<ByteSource> {
    const { path } = this, size = await this.#size();
    if (size === undefined) throw notFound(path, wanted);
    const read = async (start: number, into: Uint8Array) => {
      if (into.length === 0) return;
      const end = start + into.length;
      if (end > size) throw new TilereelError(`${path} ended while it was read`);
      const { status, body } = await request(path, { headers: { range: `bytes=${start}-${end - 1}` } });
      let filled = 0;
      if (status === 206 && body) {
        for await (const chunk of body) {
          if (filled + chunk.length > into.length) break;
          into.set(chunk, filled);
          filled += chunk.length;
        }
      } else await body?.cancel();
      if (filled === into.length) return;
      throw new TilereelError(
        `${path} cannot be read: bytes ${start} to ${end - 1} came as ${filled} bytes (${status})`,
      );
    };
    return { path, size, read, [Symbol.dispose]: () => {} };
  }

  list(): Promise<string[]> {
    return Promise.reject(new TilereelError(`${this.path} cannot be listed`));
  }

  file(name: string): StoredFile {
    return this.#at(name, "file");
  }

  folder(name: string): FileStore {
    return this.#at(name, "folder");
  }

  #at(name: string, as: "file" | "folder"): HttpPath {
    const [first, ...rest] = name.split("/"), path = `${this.path}/${first}`;
    return rest.length === 0
      ? new HttpPath(path, this, as)
      : new HttpPath(path, this, "folder").#at(rest.join("/"), as);
  }

  /** In bytes; undefined if there is no such file. */
  async #size(): Promise<number | undefined> {
    const { status, headers } = await request(this.path, { method: "HEAD" }), size = headers.get("content-length");
    if (status === 404) return undefined;
    if (status === 200 && size !== null) return Number(size);
    throw new TilereelError(`${this.path} cannot be read: the server answered ${status} without the file's size`);
  }
}

async function request(path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(path, init);
  } catch (error) {
    throw fileError(path, "read", error);
  }
}
