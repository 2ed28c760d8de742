/**
 * A file from which any range can be read.
 *
 * @module
 */
import { checkPath } from "../../gpu/common/check_options.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { fileError, isNotFound } from "./file_error.ts";

/** An open file and its length in bytes. Reads may overlap in time. */
export class RandomAccessFile implements Disposable {
  /** Seeking and reading are two calls that share one position, so each read waits for the previous one. */
  #lastRead: Promise<void> = Promise.resolve();

  private constructor(readonly path: string, readonly length: number, private readonly file: Deno.FsFile) {}

  /**
   * @param wanted what is expected at `path`, for messages
   * @throws {TilereelError} if `path` is no file that can be read.
   */
  static async open(path: string, wanted = "a file"): Promise<RandomAccessFile> {
    checkPath("the path of a file to read", path);
    let file: Deno.FsFile | undefined;
    try {
      file = await Deno.open(path, { read: true });
      const stat = await file.stat();
      if (!stat.isFile) {
        throw new TilereelError(
          `${path} is ${stat.isDirectory ? "a folder" : "a device or a pipe"}, but ${wanted} was expected`,
        );
      }
      return new RandomAccessFile(path, stat.size, file);
    } catch (error) {
      file?.close();
      if (isNotFound(error)) {
        throw new TilereelError(`${path} does not exist; ${wanted} was expected`, { cause: error });
      }
      throw fileError(path, "read", error);
    }
  }

  /**
   * Fills `into` with the bytes from `offset` on.
   *
   * @throws {TilereelError} if the file ends before or cannot be read.
   */
  read(offset: number, into: Uint8Array): Promise<void> {
    const read = this.#lastRead.then(() => this.#read(offset, into));
    this.#lastRead = read.catch(() => {});
    return read;
  }

  async #read(offset: number, into: Uint8Array): Promise<void> {
    try {
      await this.file.seek(offset, Deno.SeekMode.Start);
      let filled = 0;
      // The system may return less than was requested; Linux never returns more than 2 GiB at once.
      while (filled < into.length) {
        const count = await this.file.read(into.subarray(filled));
        if (count === null) {
          throw new TilereelError(`${this.path} ended while it was read; it was changed or cut short meanwhile`);
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
