/**
 * Numbers that leave the GPU for good.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** The numbers of a tensor, which is freed. */
export async function readAndRelease(gpu: Gpu, tensor: Tensor): Promise<Float32Array> {
  try {
    return await gpu.read(tensor);
  } finally {
    gpu.release(tensor);
  }
}
