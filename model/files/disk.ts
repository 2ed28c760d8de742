/**
 * Files on disk. A browser's page has no disk, so this module looks for Deno when a path is used: all other modules
 * that a page loads do without it.
 *
 * @module
 */
import { checkPath } from "../../gpu/common/check_options.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { fileError, isNotFound, notFound } from "./file_error.ts";
import { baseName, type ByteSource, type FileStore, type StoredFile } from "./store.ts";

/** The folder at a path; a store is returned as it is. */
export function folderAt(folder: string | FileStore): FileStore {
  return typeof folder === "object" && folder !== null ? folder : new DiskPath(folder);
}

/** The file at a path; another store's file is returned as it is. */
export function fileAt(file: string | StoredFile): StoredFile {
  return typeof file === "object" && file !== null ? file : new DiskPath(file);
}

/** The file at the path of a store, for a place that may be a folder or a file. */
export function fileOf(place: FileStore | StoredFile): StoredFile {
  return "open" in place ? place : place.parent?.file(place.name) ?? fileAt(place.path);
}

/** @throws {TilereelError} in a browser's page */
function host(path: string): typeof Deno {
  const { Deno: host } = globalThis as { Deno?: typeof Deno };
  if (!host) {
    throw new TilereelError(`${path} cannot be opened, because there is no file system here; give a FileStore instead`);
  }
  return host;
}

class DiskPath implements FileStore, StoredFile {
  constructor(readonly path: string) {
    checkPath("the path of a file or folder", path);
  }

  get name(): string {
    return baseName(this.path);
  }

  get parent(): FileStore | undefined {
    const { build, cwd } = host(this.path), path = build.os === "windows" ? this.path.replaceAll("\\", "/") : this.path;
    const absolute = /^([A-Za-z]:)?\//.test(path) ? path : `${cwd()}/${path}`;
    const parts: string[] = [];
    for (const part of absolute.split("/")) {
      if (part === "..") parts.pop();
      else if (part !== "" && part !== ".") parts.push(part);
    }
    if (parts.pop() === undefined) return undefined;
    return new DiskPath((absolute.startsWith("/") ? "/" : "") + parts.join("/"));
  }

  async kind(): Promise<"file" | "folder" | undefined> {
    try {
      return (await host(this.path).stat(this.path)).isDirectory ? "folder" : "file";
    } catch (error) {
      // Below a file there is nothing, either.
      if (isNotFound(error) || (error as { code?: unknown }).code === "ENOTDIR") return undefined;
      throw fileError(this.path, "read", error);
    }
  }

  async open(wanted = "a file"): Promise<ByteSource> {
    const { path } = this;
    let file: Deno.FsFile | undefined;
    try {
      // Opening a pipe would wait until something writes to it.
      const stat = await host(path).stat(path);
      if (!stat.isFile) {
        throw new TilereelError(
          `${path} is ${stat.isDirectory ? "a folder" : "a device or a pipe"}, but ${wanted} was expected`,
        );
      }
      file = await host(path).open(path, { read: true });
      return new OpenFile(path, (await file.stat()).size, file);
    } catch (error) {
      file?.close();
      throw isNotFound(error) ? notFound(path, wanted, error) : fileError(path, "read", error);
    }
  }

  async list(): Promise<string[]> {
    try {
      return (await Array.fromAsync(host(this.path).readDir(this.path))).map(({ name }) => name);
    } catch (error) {
      throw fileError(this.path, "read", error);
    }
  }

  file(name: string): StoredFile {
    return this.#at(name);
  }

  folder(name: string): FileStore {
    return this.#at(name);
  }

  #at(name: string): DiskPath {
    return new DiskPath(`${this.path.replace(/(?<=.)[\\/]+$/, "")}/${name}`);
  }
}

class OpenFile implements ByteSource {
  /** Seeking and reading are two calls that share one position, so each read waits for the previous one. */
  #lastRead: Promise<void> = Promise.resolve();

  constructor(readonly path: string, readonly size: number, private readonly file: Deno.FsFile) {}

  read(start: number, into: Uint8Array): Promise<void> {
    const read = this.#lastRead.then(() => this.#read(start, into));
    this.#lastRead = read.catch(() => {});
    return read;
  }

  async #read(start: number, into: Uint8Array): Promise<void> {
    try {
      await this.file.seek(start, 0);
      let filled = 0;
      // The system may return less than was requested; Linux never returns more than 2 GiB at once.
      while (filled < into.length) {
        const count = await this.file.read(into.subarray(filled));
        if (count === null) {
          throw new TilereelError(
            `${this.path} ended while it was read; run the command again when the file is complete`,
          );
        }
        filled += count;
      }
    } catch (error) {
      throw fileError(this.path, "read", error);
    }
  }

  [Symbol.dispose](): void {
    this.file.close();
  }
}
