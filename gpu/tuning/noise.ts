import { FORMATS } from "../formats/formats.ts";
import type { Gpu } from "../gpu.ts";
import { bytesOf, type Tensor } from "../tensor.ts";

/** The length of the sequence of numbers, which repeats. It is more than a workgroup reads at once. */
const PERIOD = 1 << 16;

/**
 * Makes an operand for trials: numbers between −1 and 1. Zeros would not do, because a GPU multiplies them faster.
 *
 * @param start the position in the sequence at which the tensor begins, so that tensors can differ
 */
export function noise(gpu: Gpu, shape: readonly number[], format: "f32" | "bf16" = "f32", start = 0): Tensor {
  const numbers = new Float32Array(PERIOD).map((_, i) => Math.sin((i + start) ** 2));
  const halves = () => Uint16Array.from(new Uint32Array(numbers.buffer), (bits) => bits >>> 16);
  const period = new Uint8Array(format === "f32" ? numbers.buffer : halves().buffer);
  const bytes = new Uint8Array(bytesOf(shape, FORMATS[format]));
  for (let at = 0; at < bytes.length; at += period.length) {
    bytes.set(period.subarray(0, bytes.length - at), at);
  }
  return gpu.upload(bytes, shape, format);
}
