import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import type { ByteSource } from "../files/store.ts";
import type { TensorInfo, TensorSource } from "./tensor_source.ts";

/** A tensor and the offset of its bytes in the file. */
export interface StoredTensor extends TensorInfo {
  readonly offset: number;
}

/** The checked header of a file: every tensor lies inside the file. */
export interface TensorHeader {
  readonly metadata: Readonly<Record<string, string>>;
  /** By name, in the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/** Rows that lie less than this apart are read in one request, which over a network costs less than another. */
const MERGED_BYTES = 2 ** 16;

/** The tensors of one file, which it takes over: what a container makes of the header that it reads. */
export class TensorFile implements TensorSource {
  #closed = false;

  constructor(private readonly file: ByteSource, private readonly header: TensorHeader) {}

  get path(): string {
    return this.file.path;
  }

  get metadata(): Readonly<Record<string, string>> {
    return this.header.metadata;
  }

  names(): string[] {
    return [...this.header.tensors.keys()];
  }

  has(name: string): boolean {
    return this.header.tensors.has(name);
  }

  info(name: string): TensorInfo {
    return this.#stored(name);
  }

  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return await this.readRange(name, 0, this.#stored(name).bytes);
  }

  async readRange(
    name: string,
    byteStart: number,
    byteLength: number,
    into = allocate(name, byteLength),
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { offset, bytes } = this.#stored(name);
    if (byteStart < 0 || byteLength < 0 || byteStart + byteLength > bytes) {
      throw new RangeError(`bytes ${byteStart} to ${byteStart + byteLength} of ${quoted(name)}, which has ${bytes}`);
    }
    const part = into.subarray(0, byteLength);
    await this.file.read(offset + byteStart, part);
    return part;
  }

  async readRows(name: string, rows: Iterable<number>): Promise<Uint8Array<ArrayBuffer>> {
    const { offset, bytes, shape } = this.#stored(name);
    const count = shape[0] ?? 0;
    const wanted = [...rows];
    const bad = wanted.find((row) => !(Number.isInteger(row) && row >= 0 && row < count));
    if (bad !== undefined) {
      throw new TilereelError(`tensor ${quoted(name)} in ${this.path} has ${count} rows, but row ${bad} was requested`);
    }
    const rowBytes = count === 0 ? 0 : bytes / count;
    const into = allocate(name, wanted.length * rowBytes);
    const places = Map.groupBy(wanted.keys(), (i) => wanted[i]!);
    await Promise.all(
      stretches([...places.keys()], MERGED_BYTES / rowBytes).map(async ([first, last]) => {
        const read = allocate(name, (last - first + 1) * rowBytes);
        await this.file.read(offset + first * rowBytes, read);
        for (let row = first; row <= last; row++) {
          const at = (row - first) * rowBytes;
          for (const i of places.get(row) ?? []) into.set(read.subarray(at, at + rowBytes), i * rowBytes);
        }
      }),
    );
    return into;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.file[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #stored(name: string): StoredTensor {
    const tensor = this.header.tensors.get(name);
    if (!tensor) throw new TilereelError(`${this.path} holds no tensor ${quoted(name)}, which this model needs`);
    return tensor;
  }
}

/** The first and last rows of stretches that cover `rows`; rows that lie less than `gap` apart are in one. */
function stretches(rows: readonly number[], gap: number): readonly (readonly [number, number])[] {
  const found: [number, number][] = [];
  for (const row of rows.toSorted((a, b) => a - b)) {
    const last = found.at(-1);
    if (last && row - last[1] <= gap) last[1] = row;
    else found.push([row, row]);
  }
  return found;
}

function allocate(name: string, byteLength: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(byteLength);
  } catch {
    throw new TilereelError(
      `there is too little memory to read tensor ${quoted(name)}, which needs ${formatBytes(byteLength)}`,
    );
  }
}
