import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** The largest number of sums that are read back. */
const SUMS = 4096;

const SUMS_KERNEL = perElement({
  name: "squared_error_sums",
  buffers: { a: read("f32"), b: read("f32"), y: write("f32") },
  params: { size: "u32" },
  body: `  var sum = 0.0;
  for (var at = i; at < p.size; at += p.count) { let d = a[at] - b[at]; sum += d * d; }
  y[i] = sum;`,
});

/**
 * Sums of (a − b)² over parts of two tensors. Results repeat bit for bit. {@link meanSquaredError} completes them.
 *
 * @param a any shape, f32
 * @param b the size of a, f32
 * @returns [parts], at most 4096 of them, f32
 */
export function squaredErrorSums(gpu: Gpu, a: Tensor, b: Tensor): Tensor {
  const size = sizeOfBoth(a, b), y = gpu.tensor([Math.min(size, SUMS)]);
  return runPerElement(gpu, SUMS_KERNEL, { a, b, y }, { size });
}

/**
 * The mean of (a − b)², in float64.
 *
 * @param sums the result of {@link squaredErrorSums}, read back
 * @param size the number of elements of a
 */
export function meanSquaredError(sums: Float32Array, size: number): number {
  return sums.reduce((total, sum) => total + sum, 0) / size;
}

const GRADIENT_KERNEL = perElement({
  name: "mean_squared_error_gradient",
  buffers: { a: read("f32"), b: read("f32"), y: write("f32") },
  params: { factor: "f32" },
  body: "  y[i] = p.factor * (a[i] - b[i]);",
});

/**
 * The gradient of weight · mean((a − b)²) with respect to a: 2 · weight · (a − b) / size.
 *
 * @param a any shape, f32
 * @param b the size of a, f32
 * @returns the shape of a, f32
 */
export function meanSquaredErrorGradient(gpu: Gpu, a: Tensor, b: Tensor, weight = 1): Tensor {
  const factor = 2 * weight / sizeOfBoth(a, b);
  return runPerElement(gpu, GRADIENT_KERNEL, { a, b, y: gpu.tensor(a.shape) }, { factor });
}

function sizeOfBoth(a: Tensor, b: Tensor): number {
  if (a.size !== b.size) throw new Error(`mean squared error of [${a.shape}] and [${b.shape}]`);
  return a.size;
}
