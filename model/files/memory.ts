import { TilereelError } from "../../gpu/common/errors.ts";
import { notFound } from "./file_error.ts";
import { baseName, type ByteSource, type FileStore, type StoredFile } from "./store.ts";

/** Opens a file; each call gives a source of its own. */
export type OpenBytes = () => ByteSource | Promise<ByteSource>;

/**
 * A folder of files of any kind whose names are known: a list of addresses, files dropped on a page, or an archive.
 *
 * @param files how to open each, by its path in the folder, with slashes: "transformer/config.json"
 * @param path names the folder in messages
 */
export function folderOf(files: ReadonlyMap<string, OpenBytes>, path: string): FileStore {
  return new ListedPath(new Map([...files].map(([name, open]) => [`${path}/${name}`, open])), path);
}

/** A folder in memory: embedded in a page, or made by a test. The parameters are those of {@link folderOf}. */
export function memoryFolder(files: Readonly<Record<string, Uint8Array>>, path = "memory"): FileStore {
  const opened = Object.entries(files).map(([name, bytes]) => [name, () => bytesAs(`${path}/${name}`, bytes)] as const);
  return folderOf(new Map(opened), path);
}

/** A file in memory, with nothing beside it. */
export function memoryFile(path: string, bytes: Uint8Array): StoredFile {
  return new ListedPath(new Map([[path, () => bytesAs(path, bytes)]]), path);
}

function bytesAs(path: string, bytes: Uint8Array): ByteSource {
  const read = (start: number, into: Uint8Array) => {
    const part = bytes.subarray(start, start + into.length);
    if (part.length < into.length) return Promise.reject(new TilereelError(`${path} ended while it was read`));
    into.set(part);
    return Promise.resolve();
  };
  return { path, size: bytes.length, read, [Symbol.dispose]: () => {} };
}

class ListedPath implements FileStore, StoredFile {
  constructor(
    private readonly files: ReadonlyMap<string, OpenBytes>,
    readonly path: string,
    readonly parent: FileStore | undefined = undefined,
  ) {}

  get name(): string {
    return baseName(this.path);
  }

  kind(): Promise<"file" | "folder" | undefined> {
    return Promise.resolve(this.files.has(this.path) ? "file" : this.#names().length > 0 ? "folder" : undefined);
  }

  async open(wanted = "a file"): Promise<ByteSource> {
    const open = this.files.get(this.path);
    if (!open) throw notFound(this.path, wanted);
    return await open();
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

  #at(name: string): ListedPath {
    return name.split("/").reduce(
      (above: ListedPath, part) => new ListedPath(this.files, `${above.path}/${part}`, above),
      this,
    );
  }

  #names(): string[] {
    const start = `${this.path}/`;
    const inside = [...this.files.keys()].filter((path) => path.startsWith(start));
    return [...new Set(inside.map((path) => path.slice(start.length).split("/")[0]!))];
  }
}
