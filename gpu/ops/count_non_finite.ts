/**
 * Tests whether a tensor is finite, to name the part of a model where numbers became infinite or NaN.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./per_element.ts";

/** The largest number of counts that are read back. */
const COUNTS = 4096;

const KERNEL: KernelSource = {
  name: "count_non_finite",
  // The numbers are read as bits, because WGSL compilers may assume that no f32 is NaN.
  buffers: { x: read("u32"), y: write("u32") },
  params: { count: "u32", counts: "u32" },
  workgroupSize: [64, 1, 1],
  body: `  ${INDEX_1D}
  if (i >= p.counts) { return; }
  var found = 0u;
  for (var at = i; at < p.count; at += p.counts) {
    found += select(0u, 1u, (x[at] & 0x7f800000u) == 0x7f800000u);
  }
  y[i] = found;`,
};

/**
 * Counts NaNs and infinities in parts of a tensor. The sum of the counts is the count of the whole tensor.
 *
 * @param x any shape, f32
 * @returns [parts], at most 4096 of them, u32
 */
export function countNonFinite(gpu: Gpu, x: Tensor): Tensor {
  const counts = Math.min(x.size, COUNTS);
  const y = gpu.tensor([counts], "u32");
  gpu.run(KERNEL, { buffers: { x, y }, params: { count: x.size, counts }, workgroups: groups1d(counts) });
  return y;
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
