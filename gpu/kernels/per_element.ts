import type { Gpu } from "../gpu.ts";
import { folded, type KernelSource } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";

/** The number of workgroups of 64 threads that cover `count` indices. */
export const groups1d = (count: number) => folded(Math.ceil(count / 64));

/**
 * Makes a kernel in which each thread computes one element. Its body has `i`, the element's index. The parameter
 * `count`, the number of elements, is added.
 */
export function perElement(kernel: Omit<KernelSource, "workgroupSize">): KernelSource {
  return {
    ...kernel,
    params: { count: "u32", ...kernel.params },
    workgroupSize: [64, 1, 1],
    body: `  let i = (wid.y * nwg.x + wid.x) * 64u + li;\n  if (i >= p.count) { return; }\n${kernel.body}`,
  };
}

/**
 * Records such a kernel.
 *
 * @param count the number of elements. Default: those of the output `y`, as the kernel declares them
 * @returns `y`
 */
export function runPerElement(
  gpu: Gpu,
  kernel: KernelSource,
  buffers: Readonly<Record<string, Tensor>> & { readonly y: Tensor },
  params: Readonly<Record<string, number>> = {},
  count = buffers.y.bytes / bytesOfElement(kernel.buffers.y!.element),
): Tensor {
  gpu.run(kernel, { buffers, params: { count, ...params }, workgroups: groups1d(count) });
  return buffers.y;
}

/** The bytes of a vector or a scalar of 32 bits. */
const bytesOfElement = (type: string) => 4 * Number(type.match(/^vec(\d)/)?.[1] ?? 1);
