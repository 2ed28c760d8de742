/**
 * How far two tensors are apart: what step caches decide by.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";

/** The largest number of sums of each kind that are read back. */
const SUMS = 2048;

const KERNEL = perElement({
  name: "absolute_sums",
  buffers: { a: read("f32"), b: read("f32"), y: write("f32") },
  params: { size: "u32" },
  body: `  var difference = 0.0;
  var magnitude = 0.0;
  for (var at = i; at < p.size; at += p.count) {
    difference += abs(a[at] - b[at]);
    magnitude += abs(b[at]);
  }
  y[i] = difference;
  y[p.count + i] = magnitude;`,
});

/** The mean of |a − b|, and the mean of |b|. */
export interface MeanDistance {
  readonly difference: number;
  readonly magnitude: number;
}

/**
 * Measures how far two tensors are apart, after all work recorded so far. The copy that is read back is recorded at
 * once: both tensors may be freed while the numbers are waited for.
 *
 * @param a any shape, f32
 * @param b at least `size` elements, f32
 * @param size the number of leading elements that are compared. Default: all of `a`
 */
export async function meanDistance(gpu: Gpu, a: Tensor, b: Tensor, size = a.size): Promise<MeanDistance> {
  if (size > a.size || size > b.size) throw new Error(`the first ${size} numbers of [${a.shape}] and [${b.shape}]`);
  const parts = Math.min(size, SUMS);
  let numbers!: Promise<Float32Array>;
  gpu.scope(() => {
    const y = gpu.tensor([2 * parts]);
    runPerElement(gpu, KERNEL, { a, b, y }, { size }, parts);
    numbers = gpu.read(y);
  });
  const sums = await numbers;
  const mean = (of: Float32Array) => of.reduce((total, sum) => total + sum, 0) / size;
  return { difference: mean(sums.subarray(0, parts)), magnitude: mean(sums.subarray(parts)) };
}
