/**
 * The source of a model part's weights: one safetensors file or a set of shards, read tensor by tensor.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { anyOf, type Dtype, FLOAT_DTYPES, toFloat32 } from "./dtype.ts";

/** The description of a stored tensor, which is known before it is read. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Its size as stored. */
  readonly bytes: number;
  /** The file that holds it. */
  readonly file: string;
}

/** Stored tensors by name. Only headers are read before a tensor is requested. */
export interface TensorSource extends Disposable {
  /** The file, or the index of a sharded set: for messages. */
  readonly path: string;
  /** The file's own key-value pairs; empty for a sharded set. */
  readonly metadata: Readonly<Record<string, string>>;
  /** All tensors' names. */
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
      `tensor "${name}" in ${info.file} has the shape [${info.shape.join(", ")}], but [${shape.join(", ")}] was ` +
        `expected; config.json and the weights must belong to the same model`,
    );
  }
  if (!dtypes.includes(info.dtype)) {
    throw new TilereelError(
      `tensor "${name}" in ${info.file} is stored as ${info.dtype}, but ${anyOf(dtypes)} was expected` +
        (info.dtype.startsWith("F8") ? "; use the model's version in BF16 or F16" : ""),
    );
  }
  return info;
}

/**
 * Reads a whole tensor of floats as float32.
 *
 * @throws {TilereelError} if it is missing or holds no floats.
 */
export async function readFloat32(source: TensorSource, name: string): Promise<Float32Array<ArrayBuffer>> {
  const { dtype } = source.info(name);
  if (!FLOAT_DTYPES.includes(dtype)) {
    throw new TilereelError(`${source.path}: "${name}" holds ${dtype} values, but ${anyOf(FLOAT_DTYPES)} was expected`);
  }
  return toFloat32(await source.read(name), dtype);
}
