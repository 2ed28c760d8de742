import { TilereelError } from "../../gpu/common/errors.ts";
import type { MatrixFormat } from "../../gpu/formats/format.ts";
import { FORMATS } from "../../gpu/formats/formats.ts";
import { GGML_DTYPES, ggmlDecoder } from "./ggml_blocks.ts";

/** How numbers are stored. */
interface StoredDtype {
  /** The number of consecutive elements that are stored together; rows of matrices are multiples of it. */
  readonly blockElements: number;
  /** The bytes that they take. */
  readonly blockBytes: number;
  /** The format in which the GPU holds such bytes. Matrices may be stored in dtypes that have one. */
  readonly format?: MatrixFormat;
  /** Converts them to f32. Vectors, tables and the autoencoder's weights may be stored in dtypes that have it. */
  readonly decode?: (bytes: Uint8Array) => Float32Array<ArrayBuffer>;
  /** Converts integers or booleans. */
  readonly integers?: (bytes: Uint8Array) => number[];
  /** Whether safetensors files have it, by its name in this table. */
  readonly inSafetensors: boolean;
}

interface View<T> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBuffer, byteOffset: number, length: number): T;
}

/** Bytes as numbers; copied if they do not start at a multiple of a number's length. */
function view<T>(Numbers: View<T>, bytes: Uint8Array): T {
  const size = Numbers.BYTES_PER_ELEMENT;
  const { buffer, byteOffset, length } = bytes.byteOffset % size === 0 && bytes.buffer instanceof ArrayBuffer
    ? bytes as Uint8Array<ArrayBuffer>
    : bytes.slice();
  return new Numbers(buffer, byteOffset, length / size);
}

const plain = (blockBytes: number, more: Pick<StoredDtype, "decode" | "integers"> = {}): StoredDtype => ({
  ...{ blockElements: 1, blockBytes, inSafetensors: true },
  ...more,
});

/** A format that kernels read as it is stored. */
const held = (
  format: MatrixFormat,
  more: Pick<StoredDtype, "decode"> & Partial<Pick<StoredDtype, "inSafetensors">>,
): StoredDtype => ({
  ...{ format, blockElements: format.blockElements, blockBytes: format.blockBytes, inSafetensors: true },
  ...more,
});

/** A format of GGUF files, which safetensors does not have. */
const ggml = (format: MatrixFormat): StoredDtype => held(format, { decode: ggmlDecoder(format), inSafetensors: false });

const integer = <N extends number | bigint>(Numbers: View<Iterable<N>> & { readonly BYTES_PER_ELEMENT: number }) =>
  plain(Numbers.BYTES_PER_ELEMENT, { integers: (bytes) => Array.from(view(Numbers, bytes), exactly) });

/** The numbers of {@link FORMATS.i8} before they are multiplied by the scales of their rows. */
function turnedRows(bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const values = Float32Array.from(new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length));
  for (let i = 0; i + 3 < values.length; i += 4) {
    const [x, y, z, w] = values.subarray(i, i + 4) as unknown as [number, number, number, number];
    values.set([(x + y + z + w) / 2, (x - y + z - w) / 2, (x + y - z - w) / 2, (x - y - z + w) / 2], i);
  }
  return values;
}

/**
 * All dtypes, by their names in safetensors if it has them. The casts give each the same type, so that `Dtype` does not
 * depend on the functions.
 */
const DTYPES = {
  F32: held(FORMATS.f32, { decode: (bytes) => view(Float32Array, bytes) }) as StoredDtype,
  F16: held(FORMATS.f16, { decode: (bytes) => Float32Array.from(view(Float16Array, bytes)) }) as StoredDtype,
  BF16: held(FORMATS.bf16, {
    // A bfloat16 is the upper half of the float32 of the same value.
    decode: (bytes) => {
      const halves = view(Uint16Array, bytes), words = new Uint32Array(halves.length);
      for (let i = 0; i < words.length; i++) words[i] = halves[i]! << 16;
      return new Float32Array(words.buffer);
    },
  }) as StoredDtype,
  F64: plain(8, { decode: (bytes) => Float32Array.from(view(Float64Array, bytes)) }) as StoredDtype,
  F8_E4M3: held(FORMATS.f8_e4m3, {
    // With its bits moved, a number is a float16 that is 256 times smaller. Only NaN is not.
    decode: (bytes) => {
      const halves = Uint16Array.from(bytes, (code) => (code & 0x7f) << 7 | (code & 0x80) << 8);
      return Float32Array.from(new Float16Array(halves.buffer), (v) => Math.abs(v) > 1.75 ? NaN : 256 * v);
    },
  }) as StoredDtype,
  F8_E5M2: held(FORMATS.f8_e5m2, {
    // A float8_e5m2 is the upper half of the float16 of the same value.
    decode: (bytes) => Float32Array.from(new Float16Array(Uint16Array.from(bytes, (code) => code << 8).buffer)),
  }) as StoredDtype,
  // As the GPU holds rows that it quantised: turned by fours. In files they are I8, and their scales' names tell them apart.
  I8_ROWS: held(FORMATS.i8, { decode: turnedRows, inSafetensors: false }) as StoredDtype,
  Q8_0: ggml(GGML_DTYPES.Q8_0) as StoredDtype,
  Q6_K: ggml(GGML_DTYPES.Q6_K) as StoredDtype,
  Q5_K: ggml(GGML_DTYPES.Q5_K) as StoredDtype,
  Q5_1: ggml(GGML_DTYPES.Q5_1) as StoredDtype,
  Q5_0: ggml(GGML_DTYPES.Q5_0) as StoredDtype,
  Q4_K: ggml(GGML_DTYPES.Q4_K) as StoredDtype,
  Q4_1: ggml(GGML_DTYPES.Q4_1) as StoredDtype,
  Q4_0: ggml(GGML_DTYPES.Q4_0) as StoredDtype,
  Q3_K: ggml(GGML_DTYPES.Q3_K) as StoredDtype,
  Q2_K: ggml(GGML_DTYPES.Q2_K) as StoredDtype,
  I64: integer(BigInt64Array) as StoredDtype,
  I32: integer(Int32Array) as StoredDtype,
  I16: integer(Int16Array) as StoredDtype,
  I8: integer(Int8Array) as StoredDtype,
  U64: integer(BigUint64Array) as StoredDtype,
  U32: integer(Uint32Array) as StoredDtype,
  U16: integer(Uint16Array) as StoredDtype,
  U8: integer(Uint8Array) as StoredDtype,
  BOOL: integer(Uint8Array) as StoredDtype,
};

/**
 * How a tensor is stored: in little-endian, as safetensors says and all of Deno's platforms are. Tensors of any dtype
 * can be listed and read as bytes.
 */
export type Dtype = keyof typeof DTYPES;

const all = Object.keys(DTYPES) as readonly Dtype[];

/** The dtypes that matrices may be stored in: kernels read them. */
export const MATRIX_DTYPES: readonly Dtype[] = all.filter((dtype) => DTYPES[dtype].format);
/** The dtypes that are converted to f32 on the CPU: what vectors and the autoencoder's weights may be stored in. */
export const FLOAT_DTYPES: readonly Dtype[] = all.filter((dtype) => DTYPES[dtype].decode);

/** For {@link MATRIX_DTYPES}, the formats in which the GPU holds such bytes. */
export const WEIGHT_FORMATS: Partial<Record<Dtype, MatrixFormat>> = Object.fromEntries(
  MATRIX_DTYPES.map((dtype) => [dtype, DTYPES[dtype].format]),
);

/** Names for messages: "F32, F16 or BF16". Those that only GGUF files have are left out. */
export function anyOf(dtypes: readonly Dtype[]): string {
  return dtypes.filter((dtype) => DTYPES[dtype].inSafetensors).join(", ").replace(/, (\w+)$/, " or $1");
}

/** The dtypes that GGUF files may have. */
export const GGUF_DTYPES: readonly Dtype[] = all.filter((dtype) =>
  ["F32", "F16", "BF16"].includes(dtype) || Object.hasOwn(GGML_DTYPES, dtype)
);

/** Whether `name` is a dtype of safetensors. */
export function isSafetensorsDtype(name: unknown): name is Dtype {
  return typeof name === "string" && Object.hasOwn(DTYPES, name) && DTYPES[name as Dtype].inSafetensors;
}

/** The bytes of the given number of consecutive elements. */
export function storedBytes(dtype: Dtype, elements: number): number {
  const { blockElements, blockBytes } = DTYPES[dtype];
  return Math.ceil(elements / blockElements) * blockBytes;
}

/** The number of elements of a tensor of `shape`; 1 for a scalar's `[]`. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * Decodes stored floats. F32 comes back as a view of `bytes` where their alignment allows it.
 *
 * @throws {TilereelError} if `dtype` is none of {@link FLOAT_DTYPES}
 */
export function toFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array<ArrayBuffer> {
  const { decode } = DTYPES[dtype];
  if (decode) return decode(bytes);
  throw new TilereelError(`${dtype} values are not floats that can be read; ${anyOf(FLOAT_DTYPES)} was expected`);
}

/**
 * Decodes stored integers or booleans (0 and 1).
 *
 * @throws {TilereelError} if `dtype` is a float, or a 64-bit value is beyond ±2⁵³.
 */
export function toNumbers(bytes: Uint8Array, dtype: Dtype): number[] {
  const { integers } = DTYPES[dtype];
  if (integers) return integers(bytes);
  throw new TilereelError(`${dtype} values are not integers`);
}

function exactly(value: number | bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) {
    throw new TilereelError(`the integer ${value} is too large to be read exactly; at most 2^53 - 1 was expected`);
  }
  return number;
}
