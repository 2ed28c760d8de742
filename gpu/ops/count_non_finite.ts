import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** The largest number of counts that are read back. */
const COUNTS = 4096;

const KERNEL = perElement({
  name: "count_non_finite",
  // The numbers are read as bits, because WGSL compilers may assume that no f32 is NaN.
  buffers: { x: read("u32"), y: write("u32") },
  params: { size: "u32" },
  body: `  var found = 0u;
  for (var at = i; at < p.size; at += p.count) {
    found += select(0u, 1u, (x[at] & 0x7f800000u) == 0x7f800000u);
  }
  y[i] = found;`,
});

/**
 * Counts NaNs and infinities in parts of a tensor. The sum of the counts is the count of the whole tensor.
 *
 * @param x any shape, f32
 * @returns [parts], at most 4096 of them, u32
 */
export function countNonFinite(gpu: Gpu, x: Tensor): Tensor {
  const y = gpu.tensor([Math.min(x.size, COUNTS)], "u32");
  return runPerElement(gpu, KERNEL, { x, y }, { size: x.size });
}

/** Returns the number of NaNs and infinities in a tensor, after all work recorded so far. */
export async function nonFiniteIn(gpu: Gpu, x: Tensor): Promise<number> {
  const counts = gpu.scope(() => countNonFinite(gpu, x));
  try {
    return new Uint32Array(await gpu.readBytes(counts)).reduce((sum, count) => sum + count, 0);
  } finally {
    gpu.release(counts);
  }
}
