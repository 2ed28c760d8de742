import { TilereelError } from "../../gpu/common/errors.ts";
import { fileError, notFound } from "./file_error.ts";
import { folderOf } from "./memory.ts";
import { baseName, type ByteSource, type FileStore, type StoredFile } from "./store.ts";

/** How often a request that failed is repeated, where the reason may pass: the network, or a busy server. */
const RETRIES = 3;
/** The time before the first repetition. It doubles with each. */
const FIRST_WAIT_MS = 250;

/** Options of a folder at an address. */
interface HttpOptions {
  /** The paths of all files in it. Without them it cannot be listed: see {@link FileStore}. */
  readonly files?: readonly string[];
  /** Ends all requests, and the folder cannot be read any more. */
  readonly signal?: AbortSignal;
}

/**
 * A folder at an address, read by ranges. Requests that fail are repeated three times.
 *
 * @param address without a slash at its end: "https://huggingface.co/OWNER/MODEL/resolve/main"
 */
export function httpFolder(address: string, { files, signal }: HttpOptions = {}): FileStore {
  const folder = new HttpPath(address, undefined, "folder", signal);
  return files ? folderOf(new Map(files.map((name) => [name, () => folder.file(name).open()])), address) : folder;
}

class HttpPath implements FileStore, StoredFile {
  constructor(
    readonly path: string,
    readonly parent: FileStore | undefined,
    private readonly as: "file" | "folder",
    private readonly signal: AbortSignal | undefined,
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
      await this.#request(rangeOf(start, end), async ({ status, body }) => {
        let filled = 0;
        if (status === 206 && body) {
          for await (const chunk of body) {
            if (filled + chunk.length > into.length) break;
            into.set(chunk, filled);
            filled += chunk.length;
          }
        } else await body?.cancel();
        if (filled === into.length) return;
        const came = `bytes ${start} to ${end - 1} came as ${filled} bytes (${status})`;
        if (status === 206) throw new Error(came);
        throw new TilereelError(`${path} cannot be read: ${came}`);
      });
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
      ? new HttpPath(path, this, as, this.signal)
      : new HttpPath(path, this, "folder", this.signal).#at(rest.join("/"), as);
  }

  /** In bytes; undefined if there is no such file. */
  async #size(): Promise<number | undefined> {
    // A range is never compressed; the length of a whole answer may be that of its compressed bytes.
    const ranged = await this.#request(rangeOf(0, 1), async ({ status, headers, body }) => {
      await body?.cancel();
      return { status, size: /^bytes .*\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1] };
    });
    if (ranged.status === 404) return undefined;
    if (ranged.size !== undefined) return Number(ranged.size);
    // The server may hide that header from other origins, or have no ranges.
    const { status, headers } = await this.#request({ method: "HEAD" }, (answer) => Promise.resolve(answer));
    const length = headers.has("content-encoding") ? null : headers.get("content-length");
    if (status === 404) return undefined;
    if (status === 200 && length !== null) return Number(length);
    throw new TilereelError(`${this.path} cannot be read: the server answered ${status} without the file's size`);
  }

  /**
   * @param use reads the answer. If it throws something other than a {@link TilereelError}, the request is repeated
   * @throws the signal's reason, if it is aborted
   */
  async #request<T>(init: RequestInit, use: (answer: Response) => Promise<T>): Promise<T> {
    const { path, signal } = this;
    for (let failed = 0;; failed++) {
      try {
        signal?.throwIfAborted();
        const answer = await fetch(path, { ...init, ...signal && { signal } });
        if (!isBusy(answer)) return await use(answer);
        await answer.body?.cancel();
        throw new Error(`the server answered ${answer.status}`);
      } catch (error) {
        signal?.throwIfAborted();
        if (failed === RETRIES || error instanceof TilereelError) throw fileError(path, "read", error);
        await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** failed));
      }
    }
  }
}

/** The bytes from `start` to before `end`. */
function rangeOf(start: number, end: number): RequestInit {
  return { headers: { range: `bytes=${start}-${end - 1}` } };
}

/** Whether the same request may succeed later. */
function isBusy({ status }: Response): boolean {
  return status >= 500 || status === 408 || status === 429;
}
