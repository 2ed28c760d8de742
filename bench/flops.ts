import type { Gpu } from "../gpu/gpu.ts";
import type { KernelSource } from "../gpu/kernel.ts";
import type { Dispatch } from "../gpu/recorder.ts";

/** How the floating-point operations of each kernel are counted: an addition or a multiplication is one. */
export const FLOP_FORMULAS = [
  "matrix product 2·m·n·k",
  "dense attention 4·batch·heads·queries·keys·head dim (q·kᵀ and p·v; softmax not counted)",
  "convolution 2·frames·height·width·out·in·kernel volume (of the output; padding counted as if it were there)",
  "everything else (norms, activations, …) 0",
] as const;

/** Runs `work`, which records kernels, and counts the floating-point operations of these. */
export async function countFlops(gpu: Gpu, work: () => unknown): Promise<number> {
  let flops = 0;
  const run = gpu.run;
  gpu.run = (kernel, dispatch) => {
    flops += flopsOf(kernel, dispatch);
    run.call(gpu, kernel, dispatch);
  };
  try {
    await work();
    await gpu.finish();
  } finally {
    gpu.run = run;
  }
  return flops;
}

function flopsOf({ name }: KernelSource, { buffers, params: p }: Dispatch): number {
  // Packing an operand is no arithmetic. A dispatch of several weights has an output of each.
  if (name.startsWith("gemm_") && !name.startsWith("gemm_pack_")) {
    return Object.keys(buffers).filter((name) => /^y(_|$)/.test(name)).length * 2 * p.m! * p.n! * 4 * p.k4!;
  }
  // The output's size is batch · queries · heads · head dim. Sparse attention and backward passes are not counted.
  if (/^attention_(plain|tiled|matrix)/.test(name) && !name.includes("_plan")) return 4 * buffers.y!.size * p.inner!;
  // In Winograd's domain, 16 products of a square stand for 9 of each of its 4 pixels. Transforms are not counted.
  if (name.startsWith("conv3d_positions")) {
    return 2 * 36 * p.frames! * p.width! * p.channels! * 4 * p.c4! * p.kernel_t!;
  }
  if (name.startsWith("conv3d_") && !/winograd|pack/.test(name)) {
    return 2 * p.frames! * p.height! * p.width! * p.channels! * 4 * p.c4! * p.kernel_t! * p.kernel_h! * p.kernel_w!;
  }
  return 0;
}
