/**
 * Clears the padding of a batch of sequences.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./grid.ts";

const KERNEL: KernelSource = {
  name: "zero_past_length",
  buffers: { x: read("f32"), lengths: read("u32"), y: write("f32") },
  params: { count: "u32", tokens: "u32", dim: "u32" },
  workgroupSize: [64, 1, 1],
  body: `  ${INDEX_1D}
  if (i >= p.count) { return; }
  let token = i / p.dim;
  y[i] = select(0.0, x[i], token % p.tokens < lengths[token / p.tokens]);`,
};

/**
 * Copies each sequence up to its length, and writes zeros after it.
 *
 * @param x [batch, tokens, dim], f32
 * @param lengths [batch], u32
 */
export function zeroPastLength(gpu: Gpu, x: Tensor, lengths: Tensor): Tensor {
  const y = gpu.tensor(x.shape);
  gpu.run(KERNEL, {
    buffers: { x, lengths, y },
    params: { count: x.size, tokens: x.dim(1), dim: x.dim(2) },
    workgroups: groups1d(x.size),
  });
  return y;
}
