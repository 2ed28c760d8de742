/**
 * Operands for trials.
 *
 * @module
 */
import { FORMATS } from "../formats/formats.ts";
import type { Gpu } from "../gpu.ts";
import { bytesOf, type Tensor } from "../tensor.ts";

/** Numbers that are made before they repeat: more than a workgroup sees at once. */
const PERIOD = 1 << 16;

/**
 * A tensor of numbers between −1 and 1: a GPU that multiplies zeros runs faster than it will at work.
 *
 * @param start where in the numbers it begins: tensors with different ones differ
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
