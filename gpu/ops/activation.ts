/**
 * Activations that no matrix product precedes.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, write } from "../kernel.ts";
import { ACTIVATE, type Activation, ACTIVATIONS } from "../kernels/gemm.ts";
import type { Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./grid.ts";

const KERNEL: KernelSource = {
  name: "activation",
  buffers: { x: read("f32"), y: write("f32") },
  params: { count: "u32", kind: "u32" },
  workgroupSize: [64, 1, 1],
  declarations: ACTIVATE,
  body: `  ${INDEX_1D}
  if (i < p.count) { y[i] = activate(x[i], p.kind); }`,
};

/** act(x), elementwise, f32. */
export function activation(gpu: Gpu, x: Tensor, kind: Activation): Tensor {
  const y = gpu.tensor(x.shape);
  gpu.run(KERNEL, {
    buffers: { x, y },
    params: { count: x.size, kind: ACTIVATIONS[kind] },
    workgroups: groups1d(x.size),
  });
  return y;
}
