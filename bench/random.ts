/**
 * Random operands. With zeros times would differ, and results that were never written would not show.
 *
 * @module
 */
import { TilereelError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { sizeOf, type Tensor } from "../gpu/tensor.ts";
import { randn } from "../model/noise.ts";

/** The count of random numbers; longer tensors repeat them. It is no multiple of usual row lengths, so rows differ. */
const PERIOD = 2 ** 20 + 36;

const blocks = new Map<string, Uint8Array>();

/**
 * The bytes of normally distributed numbers.
 *
 * @param std standard deviation
 * @param mean of all numbers
 */
export function normalBytes(dtype: "f32" | "bf16", std: number, mean = 0): Uint8Array {
  const id = [dtype, std, mean].join();
  let block = blocks.get(id);
  if (!block) {
    const values = randn(PERIOD, 1).map((x) => mean + x * std);
    block = new Uint8Array(values.buffer);
    if (dtype === "bf16") {
      const bits = new Uint32Array(values.buffer);
      block = new Uint8Array(Uint16Array.from(bits, (b) => b >>> 16).buffer);
    }
    blocks.set(id, block);
  }
  return block;
}

/** Yields `length` bytes of a repeating block from the byte `start` on; both are multiples of 4. */
export function* repeated(block: Uint8Array, start: number, length: number): Generator<Uint8Array> {
  for (let at = start % block.length, left = length; left > 0; at = 0) {
    const piece = block.subarray(at, Math.min(block.length, at + left));
    left -= piece.length;
    yield piece;
  }
}

/**
 * A tensor of normally distributed numbers; the caller's.
 *
 * @param which makes tensors of equal shape differ
 */
export function normalTensor(
  gpu: Gpu,
  shape: readonly number[],
  std = 1,
  dtype: "f32" | "bf16" = "f32",
  which = 0,
): Tensor {
  const tensor = gpu.tensor(shape, dtype);
  const start = 4 * ((sizeOf(shape) + which * 34567) % 99991);
  let at = 0;
  for (const piece of repeated(normalBytes(dtype, std), start, tensor.bytes)) {
    gpu.write(tensor, piece, at);
    at += piece.length;
  }
  return tensor;
}

/**
 * Checks that numbers look computed.
 *
 * @returns their standard deviation
 * @throws {TilereelError} if a number is not finite, or all are equal
 */
export function assertVaried(numbers: Float32Array | Uint8Array, what: string): number {
  let sum = 0, squares = 0;
  for (const x of numbers) {
    sum += x;
    squares += x * x;
  }
  const mean = sum / numbers.length, std = Math.sqrt(Math.max(0, squares / numbers.length - mean * mean));
  if (!Number.isFinite(std)) throw new TilereelError(`${what} hold numbers that are not finite`);
  if (std === 0) throw new TilereelError(`${what} hold the same number, ${mean}, everywhere`);
  return std;
}
