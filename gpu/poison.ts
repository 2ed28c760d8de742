/**
 * Fills tensors with NaN, so that tests notice values that a kernel did not write.
 *
 * @module
 */
import { folded, type KernelSource, write } from "./kernel.ts";
import type { Dispatch } from "./recorder.ts";
import type { Tensor } from "./tensor.ts";

/** A NaN of f32, and two of bf16 or f16. */
const NAN = 0x7fc07fc0;

const FILL: KernelSource = {
  name: "fill",
  buffers: { y: write("u32") },
  params: { count: "u32", value: "u32" },
  workgroupSize: [64, 1, 1],
  body: `  let i = (wid.y * nwg.x + wid.x) * 64u + li;
  if (i < p.count) { y[i] = p.value; }`,
};

/** The launch that fills a tensor with NaN. */
export function poisoning(tensor: Tensor): [KernelSource, Dispatch] {
  const count = tensor.bytes / 4;
  const workgroups = folded(Math.ceil(count / 64));
  return [FILL, { buffers: { y: tensor }, params: { count, value: NAN }, workgroups }];
}
