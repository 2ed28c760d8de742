/**
 * Where files are read from: a folder, memory, or an address. Nothing here needs Deno, so that a page can load models.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";

/** Bytes of which any range can be read. Reads may overlap in time. */
export interface ByteSource extends Disposable {
  /** Names the file in messages. */
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /**
   * Fills `into` with the bytes from `start` on. Few large reads are faster than many small ones.
   *
   * @throws {TilereelError} if the file ends before or cannot be read
   */
  read(start: number, into: Uint8Array): Promise<void>;
}

/** A path in a store. */
interface StoredPath {
  /** Names it in messages. */
  readonly path: string;
  /** The last part of the path. */
  readonly name: string;
  /** The folder that it is in; undefined at the top of a store. */
  readonly parent: FileStore | undefined;
  /**
   * What is there; undefined if there is nothing.
   *
   * @throws {TilereelError} if that cannot be determined
   */
  kind(): Promise<"file" | "folder" | undefined>;
}

/** A file, which may be missing. */
export interface StoredFile extends StoredPath {
  /**
   * Opens it.
   *
   * @param wanted what is expected there, for messages. Default: "a file"
   * @throws {TilereelError} if it is missing (`isNotFound` tells so), is no file, or cannot be read
   */
  open(wanted?: string): Promise<ByteSource>;
}

/**
 * A folder, which may be missing.
 *
 * Over HTTP, a store can neither list folders nor tell which exist. The kind of every folder is then "folder", and `list`
 * rejects. Models can be loaded from such a store. They have no identity (`model/identity/`), and messages about missing
 * files say less.
 *
 * `kind` should be cheap: it is often asked of files that are seldom there, such as `x.aria2` beside `x`.
 */
export interface FileStore extends StoredPath {
  /**
   * The names of the files and folders in it.
   *
   * @throws {TilereelError} if it is missing, is no folder, or cannot be read or listed
   */
  list(): Promise<string[]>;
  /** A file in it; `name` may contain slashes. */
  file(name: string): StoredFile;
  /** A folder in it; `name` may contain slashes. */
  folder(name: string): FileStore;
}

/**
 * The bytes of a whole file.
 *
 * @param wanted what is expected there, for messages. Default: "a file"
 * @param largest the most bytes that such a file has
 * @throws {TilereelError} as {@link StoredFile.open} does, or if it is larger
 */
export async function readBytes(
  file: StoredFile,
  wanted = "a file",
  largest = Infinity,
): Promise<Uint8Array<ArrayBuffer>> {
  using source = await file.open(wanted);
  const { path, size } = source;
  if (size > largest) {
    throw new TilereelError(
      `${path} has ${formatBytes(size)}, but ${wanted} of at most ${
        formatBytes(largest)
      } was expected; name another file`,
    );
  }
  return await readPart(source, 0, size);
}

/** `length` bytes from `start` on, or as many as there are. */
export async function readPart(source: ByteSource, start: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(Math.min(length, source.size - start));
  await source.read(start, bytes);
  return bytes;
}

/** The last part of a path. */
export function baseName(path: string): string {
  return path.replace(/[\\/]+$/, "").replace(/^.*[\\/]/s, "");
}
