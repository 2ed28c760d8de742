/**
 * Kernels of which each thread computes one element.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { folded, type KernelSource } from "../kernel.ts";
import type { Dispatch } from "../recorder.ts";

/** Defines `i`, the flat index of a thread in workgroups of 64. */
export const INDEX_1D = `let i = (wid.y * nwg.x + wid.x) * 64u + li;`;

/** The number of workgroups of 64 threads that cover `count` indices. */
export const groups1d = (count: number) => folded(Math.ceil(count / 64));

/** Makes such a kernel. Its body has `i`, the element's index. The parameter `count`, the number of elements, is added. */
export function perElement(kernel: Omit<KernelSource, "workgroupSize">): KernelSource {
  return {
    ...kernel,
    params: { count: "u32", ...kernel.params },
    workgroupSize: [64, 1, 1],
    body: `  ${INDEX_1D}\n  if (i >= p.count) { return; }\n${kernel.body}`,
  };
}

/** Records such a kernel for `count` elements. */
export function runPerElement(
  gpu: Gpu,
  kernel: KernelSource,
  count: number,
  { buffers, params }: Pick<Dispatch, "buffers" | "params">,
): void {
  gpu.run(kernel, { buffers, params: { count, ...params }, workgroups: groups1d(count) });
}
