/**
 * The number formats tensors are stored in, and their decoding on the CPU.
 *
 * Bytes are little-endian, as safetensors says and as every platform Deno runs on is.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { MatrixFormat } from "../../gpu/formats/format.ts";
import { FORMATS } from "../../gpu/formats/formats.ts";

/** The bytes of an element, by the dtype's name in safetensors. */
const BYTES_PER_ELEMENT = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;

/** A dtype as safetensors names it. Tensors of any of these can be listed and read as bytes. */
export type Dtype = keyof typeof BYTES_PER_ELEMENT;

/** The dtypes that weights may be stored in, and the formats in which the GPU holds such bytes. */
export const WEIGHT_FORMATS: Partial<Record<Dtype, MatrixFormat>> = {
  F32: FORMATS.f32,
  F16: FORMATS.f16,
  BF16: FORMATS.bf16,
};
export const WEIGHT_DTYPES = Object.keys(WEIGHT_FORMATS) as readonly Dtype[];

/** Whether `name` is a dtype that tilereel knows. */
export function isDtype(name: unknown): name is Dtype {
  return typeof name === "string" && Object.hasOwn(BYTES_PER_ELEMENT, name);
}

/** The bytes of an element of `dtype`. */
export function bytesPerElement(dtype: Dtype): number {
  return BYTES_PER_ELEMENT[dtype];
}

/** The number of elements of a tensor of `shape`; 1 for a scalar's `[]`. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * Decodes stored floats. F32 comes back as a view of `bytes` where their alignment allows it.
 *
 * @throws {TilereelError} if `dtype` is not F64, F32, F16 or BF16.
 */
export function toFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array<ArrayBuffer> {
  const buffer = aligned(bytes, bytesPerElement(dtype));
  switch (dtype) {
    case "F32":
      return new Float32Array(buffer.buffer, buffer.byteOffset, buffer.length / 4);
    case "F64":
      return Float32Array.from(new Float64Array(buffer.buffer, buffer.byteOffset, buffer.length / 8));
    case "F16":
      return Float32Array.from(new Float16Array(buffer.buffer, buffer.byteOffset, buffer.length / 2));
    case "BF16": {
      // A bfloat16 is the upper half of the float32 of the same value.
      const halves = new Uint16Array(buffer.buffer, buffer.byteOffset, buffer.length / 2);
      const words = new Uint32Array(halves.length);
      for (let i = 0; i < words.length; i++) words[i] = halves[i]! << 16;
      return new Float32Array(words.buffer);
    }
    default:
      throw new TilereelError(`${dtype} values are not floats that can be read; F32, F16, BF16 or F64 was expected`);
  }
}

/**
 * Decodes stored integers or booleans (0 and 1).
 *
 * @throws {TilereelError} if `dtype` is a float, or a 64-bit value is beyond ±2⁵³.
 */
export function toNumbers(bytes: Uint8Array, dtype: Dtype): number[] {
  const buffer = aligned(bytes, bytesPerElement(dtype));
  const view = [buffer.buffer, buffer.byteOffset, buffer.length / bytesPerElement(dtype)] as const;
  switch (dtype) {
    case "I64":
      return Array.from(new BigInt64Array(...view), safeInteger);
    case "U64":
      return Array.from(new BigUint64Array(...view), safeInteger);
    case "I32":
      return Array.from(new Int32Array(...view));
    case "U32":
      return Array.from(new Uint32Array(...view));
    case "I16":
      return Array.from(new Int16Array(...view));
    case "U16":
      return Array.from(new Uint16Array(...view));
    case "I8":
      return Array.from(new Int8Array(...view));
    case "U8":
    case "BOOL":
      return Array.from(new Uint8Array(...view));
    default:
      throw new TilereelError(`${dtype} values are not integers`);
  }
}

function safeInteger(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) {
    throw new TilereelError(`the integer ${value} is too large to be read exactly; at most 2^53 - 1 was expected`);
  }
  return number;
}

/** `bytes`, copied if they don't start at a multiple of `alignment`. */
function aligned(bytes: Uint8Array, alignment: number): Uint8Array<ArrayBuffer> {
  return bytes.byteOffset % alignment === 0 && bytes.buffer instanceof ArrayBuffer
    ? bytes as Uint8Array<ArrayBuffer>
    : bytes.slice();
}
