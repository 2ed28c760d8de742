import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { type Dtype, elementCount } from "./dtype.ts";
import type { Rows } from "./named_rows.ts";
import type { TensorInfo, TensorSource } from "./tensor_source.ts";

/** Where a tensor is, and its name there. */
export interface StoredAs {
  readonly source: TensorSource;
  readonly name: string;
  /** The name of its scale in that source, if it has one. The view lists no scales, but reads them by these names. */
  readonly scale?: string | undefined;
  /** Default: all */
  readonly rows?: Rows | undefined;
  /** What its numbers are, where the file's own dtype does not say it. It takes as many bytes. */
  readonly dtype?: Dtype | undefined;
  /** Where its rows come in pairs: the number of rows of a head; see `PartWeights.pairedRows`. It is a matrix as a whole. */
  readonly pairs?: number | undefined;
}

/** Tensors of other sources, which it owns, by other names: several files as one, or another layout. */
export class TensorView implements TensorSource {
  /** Scales, by the names that {@link info} gives for them. */
  readonly #scales: ReadonlyMap<string, StoredAs>;

  constructor(
    readonly path: string,
    private readonly tensors: ReadonlyMap<string, StoredAs>,
    private readonly sources: readonly TensorSource[],
    readonly metadata: Readonly<Record<string, string>> = {},
  ) {
    this.#scales = new Map(
      [...tensors].flatMap(([of, { source, scale, rows }]) => {
        if (scale === undefined) return [];
        const each = elementCount(source.info(scale).shape) > 1;
        return [[scaleName(of, scale, rows), { source, name: scale, rows: each ? rows : undefined }]];
      }),
    );
  }

  names(): string[] {
    return [...this.tensors.keys()];
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  info(name: string): TensorInfo {
    const { source, name: stored, scale, rows, dtype } = this.#stored(name), whole = source.info(stored);
    return {
      ...whole,
      name,
      ...dtype && { dtype },
      ...rows && { shape: [rows.count, ...whole.shape.slice(1)], bytes: rows.count * rowBytes(whole) },
      ...scale !== undefined && { scale: scaleName(name, scale, rows) },
    };
  }

  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const { source, name: stored, rows, pairs } = this.#stored(name);
    return rows || pairs ? await this.readRange(name, 0, this.info(name).bytes) : await source.read(stored);
  }

  async readRange(
    name: string,
    byteStart: number,
    byteLength: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { source, name: stored, rows, pairs } = this.#stored(name);
    if (pairs) return await readUnpaired(source, stored, pairs, { byteStart, byteLength, into });
    if (!rows) return await source.readRange(stored, byteStart, byteLength, into);
    const { bytes } = this.info(name);
    if (byteStart < 0 || byteStart + byteLength > bytes) {
      throw new RangeError(`bytes ${byteStart} to ${byteStart + byteLength} of ${quoted(name)}, which has ${bytes}`);
    }
    return await source.readRange(stored, rows.start * rowBytes(source.info(stored)) + byteStart, byteLength, into);
  }

  async readRows(name: string, wanted: Iterable<number>): Promise<Uint8Array<ArrayBuffer>> {
    const { source, name: stored, rows, pairs } = this.#stored(name);
    if (pairs) return await source.readRows(stored, Array.from(wanted, (row) => pairedRow(row, pairs)));
    if (!rows) return await source.readRows(stored, wanted);
    const { start, count } = rows, list = [...wanted], bad = list.find((row) => row < 0 || row >= count);
    if (bad !== undefined) {
      throw new TilereelError(`tensor ${quoted(name)} in ${this.path} has ${count} rows, but row ${bad} was requested`);
    }
    return await source.readRows(stored, list.map((row) => start + row));
  }

  close(): void {
    for (const source of this.sources) source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #stored(name: string): StoredAs {
    const stored = this.tensors.get(name) ?? this.#scales.get(name);
    if (!stored) {
      const does = this.path.endsWith(".json") ? "lists" : "holds";
      throw new TilereelError(`${this.path} ${does} no tensor ${quoted(name)}, which this model needs`);
    }
    return stored;
  }
}

/** Parts of a tensor have parts of its scale. */
function scaleName(of: string, scale: string, rows: Rows | undefined): string {
  return rows ? `${scale} of ${of}` : scale;
}

/** Where a row is among rows in pairs. */
function pairedRow(row: number, ofHead: number): number {
  const within = row % ofHead, half = ofHead / 2;
  return row - within + 2 * (within % half) + Math.floor(within / half);
}

/** Bytes of a matrix whose rows are stored in pairs, in the order without: of whole heads, which are read once. */
async function readUnpaired(
  source: TensorSource,
  name: string,
  ofHead: number,
  { byteStart, byteLength, into = new Uint8Array(byteLength) }: {
    readonly byteStart: number;
    readonly byteLength: number;
    readonly into?: Uint8Array<ArrayBuffer> | undefined;
  },
): Promise<Uint8Array<ArrayBuffer>> {
  const info = source.info(name), row = rowBytes(info), head = ofHead * row;
  const first = Math.floor(byteStart / head) * head,
    end = Math.min(info.bytes, Math.ceil((byteStart + byteLength) / head) * head);
  const stored = await source.readRange(name, first, end - first), part = into.subarray(0, byteLength);
  for (let at = byteStart; at < byteStart + byteLength;) {
    const from = pairedRow(Math.floor(at / row), ofHead) * row + at % row;
    const length = Math.min(row - at % row, byteStart + byteLength - at);
    part.set(stored.subarray(from - first, from - first + length), at - byteStart);
    at += length;
  }
  return part;
}

function rowBytes({ bytes, shape }: TensorInfo): number {
  return bytes / shape[0]!;
}
