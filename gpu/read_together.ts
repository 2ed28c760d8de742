import type { Gpu } from "./gpu.ts";
import type { Tensor } from "./tensor.ts";

/** Returns the numbers of f32 tensors, after all work recorded so far. */
export async function readTogether(gpu: Gpu, tensors: readonly Tensor[]): Promise<Float32Array[]> {
  const all = gpu.tensor([tensors.reduce((sum, tensor) => sum + tensor.size, 0)]);
  try {
    let at = 0;
    for (const tensor of tensors) {
      gpu.copy(tensor, all.slice(at, tensor.size));
      at += tensor.size;
    }
    const numbers = await gpu.read(all);
    at = 0;
    return tensors.map(({ size }) => numbers.subarray(at, at += size));
  } finally {
    gpu.release(all);
  }
}
