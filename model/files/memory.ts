import { TilereelError } from "../../gpu/common/errors.ts";
import { notFound } from "./file_error.ts";
import { baseName, type ByteSource, type FileStore, type StoredFile } from "./store.ts";

/**
 * A folder in memory: embedded in a page, unpacked from an archive, or made by a test. Files that are dropped on a page
 * are too large for memory: a store of them reads by `Blob.slice`.
 *
 * @param files contents by path in the folder, with slashes: "transformer/config.json"
 * @param path names the folder in messages
 */
export function memoryFolder(files: Readonly<Record<string, Uint8Array>>, path = "memory"): FileStore {
  return new MemoryPath(new Map(Object.entries(files).map(([name, bytes]) => [`${path}/${name}`, bytes])), path);
}

/** A file in memory, with nothing beside it. */
export function memoryFile(path: string, bytes: Uint8Array): StoredFile {
  return new MemoryPath(new Map([[path, bytes]]), path);
}

class MemoryPath implements FileStore, StoredFile {
  constructor(
    private readonly files: ReadonlyMap<string, Uint8Array>,
    readonly path: string,
    readonly parent: FileStore | undefined = undefined,
  ) {}

  get name(): string {
    return baseName(this.path);
  }

  kind(): Promise<"file" | "folder" | undefined> {
    return Promise.resolve(this.files.has(this.path) ? "file" : this.#names().length > 0 ? "folder" : undefined);
  }

  open(wanted = "a file"): Promise<ByteSource> {
    const { path } = this, bytes = this.files.get(path);
    if (!bytes) return Promise.reject(notFound(path, wanted));
    const read = (start: number, into: Uint8Array) => {
      const part = bytes.subarray(start, start + into.length);
      if (part.length < into.length) return Promise.reject(new TilereelError(`${path} ended while it was read`));
      into.set(part);
      return Promise.resolve();
    };
    return Promise.resolve({ path, size: bytes.length, read, [Symbol.dispose]: () => {} });
  }

  list(): Promise<string[]> {
    const names = this.#names();
    return names.length > 0 ? Promise.resolve(names) : Promise.reject(notFound(this.path));
  }

  file(name: string): StoredFile {
    return this.#at(name);
  }

  folder(name: string): FileStore {
    return this.#at(name);
  }

  #at(name: string): MemoryPath {
    return name.split("/").reduce(
      (above: MemoryPath, part) => new MemoryPath(this.files, `${above.path}/${part}`, above),
      this,
    );
  }

  #names(): string[] {
    const start = `${this.path}/`;
    const inside = [...this.files.keys()].filter((path) => path.startsWith(start));
    return [...new Set(inside.map((path) => path.slice(start.length).split("/")[0]!))];
  }
}
