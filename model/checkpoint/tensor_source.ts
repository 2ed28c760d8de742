import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { anyOf, type Dtype, elementCount, FLOAT_DTYPES, toFloat32, toNumbers } from "./dtype.ts";

/** The description of a stored tensor, which is known before it is read. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Its size as stored. */
  readonly bytes: number;
  /**
   * The name of its scale in the same source: a tensor of one number or of one for each row of the first axis. The
   * numbers of the tensor are to be multiplied by it.
   */
  readonly scale?: string;
  /** The file that holds it. */
  readonly file: string;
}

/** Stored tensors by name, of one file or several shards. Only headers are read before a tensor is requested. */
export interface TensorSource extends Disposable {
  /** The file, or the index of a sharded set: for messages. */
  readonly path: string;
  /** The file's own key-value pairs; empty for a sharded set. */
  readonly metadata: Readonly<Record<string, string>>;
  /** All tensors' names; not those of scales. */
  names(): string[];
  /** Whether there is a tensor of that name. */
  has(name: string): boolean;
  /**
   * The description of a tensor.
   *
   * @throws {TilereelError} if there is none of that name.
   */
  info(name: string): TensorInfo;
  /** The whole tensor's bytes, as stored, in a buffer of their own. */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * `byteLength` bytes of the tensor from `byteStart` on: for taking a large tensor in pieces.
   *
   * @param into where to write the bytes, from its start on, instead of to a new buffer; that part of it is returned
   * @throws {RangeError} if they don't lie inside the tensor.
   */
  readRange(
    name: string,
    byteStart: number,
    byteLength: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Rows of the first axis, in the requested order. They are read once each, and neighbours together.
   *
   * @throws {TilereelError} if the tensor has no such row.
   */
  readRows(name: string, rows: Iterable<number>): Promise<Uint8Array<ArrayBuffer>>;
  /** Closes the files; also done at the end of a `using` block. */
  close(): void;
}

let zeros: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** A source whose tensors are zeros, for a dry device: no file is read. */
export function blankSource(source: TensorSource): TensorSource {
  // All share their bytes, which nobody changes: clearing gigabytes is slow.
  const bytes = (length: number) => {
    if (zeros.length < length) zeros = new Uint8Array(length);
    return Promise.resolve(zeros.subarray(0, length));
  };
  return {
    ...{ path: source.path, metadata: source.metadata },
    names: () => source.names(),
    has: (name) => source.has(name),
    info: (name) => source.info(name),
    read: (name) => bytes(source.info(name).bytes),
    readRange: (_name, _start, length) => bytes(length),
    readRows: (name, rows) => bytes([...rows].length * source.info(name).bytes / source.info(name).shape[0]!),
    close() {},
    [Symbol.dispose]() {},
  };
}

/**
 * Checks a weight before it is used.
 *
 * @param dtypes that it may be stored in
 * @throws {TilereelError} if it is missing, has another shape, or is stored in another dtype
 */
export function expectTensor(
  source: TensorSource,
  name: string,
  shape: readonly number[],
  dtypes: readonly Dtype[] = FLOAT_DTYPES,
): TensorInfo {
  const info = source.info(name);
  if (info.shape.length !== shape.length || info.shape.some((size, axis) => size !== shape[axis])) {
    throw new TilereelError(
      `tensor ${quoted(name)} in ${info.file} has the shape [${info.shape.join(", ")}], but [${
        shape.join(", ")
      }] was ` +
        `expected; config.json and the weights must belong to the same model`,
    );
  }
  if (!dtypes.includes(info.dtype)) {
    throw new TilereelError(
      `tensor ${quoted(name)} in ${info.file} is stored as ${info.dtype}, but ${anyOf(dtypes)} was expected; ` +
        "use another version of the model",
    );
  }
  return info;
}

/**
 * Reads a tensor of floats as float32, multiplied by its scale.
 *
 * @param rows of the first axis, in this order. Default: all
 * @throws {TilereelError} if it is missing, holds no floats, or has no such row
 */
export async function readFloat32(
  source: TensorSource,
  name: string,
  rows?: ArrayLike<number> & Iterable<number>,
): Promise<Float32Array<ArrayBuffer>> {
  const info = source.info(name), { dtype, shape } = info;
  if (!FLOAT_DTYPES.includes(dtype)) {
    throw new TilereelError(
      `${source.path}: ${quoted(name)} holds ${dtype} values, but ${anyOf(FLOAT_DTYPES)} was expected`,
    );
  }
  const values = toFloat32(await (rows ? source.readRows(name, rows) : source.read(name)), dtype);
  const scale = await readScale(source, info), width = elementCount(shape.slice(1));
  if (!scale) return values;
  return values.map((value, i) => {
    const row = Math.floor(i / width);
    return value * scale[rows ? rows[row]! : row]!;
  });
}

/**
 * Reads a tensor of floats, integers or booleans as float32: integers up to 2²⁴ exactly.
 *
 * @throws {TilereelError} if it is missing, or has an integer beyond ±2⁵³
 */
export async function readNumbers(source: TensorSource, name: string): Promise<Float32Array<ArrayBuffer>> {
  const { dtype } = source.info(name);
  if (FLOAT_DTYPES.includes(dtype)) return await readFloat32(source, name);
  return Float32Array.from(toNumbers(await source.read(name), dtype));
}

/** The scales of all rows of a tensor; undefined if it has none. */
export async function readScale(source: TensorSource, { scale, shape }: TensorInfo): Promise<Float32Array | undefined> {
  if (scale === undefined) return undefined;
  const read = await readFloat32(source, scale);
  return read.length === 1 ? new Float32Array(shape[0]!).fill(read[0]!) : read;
}
