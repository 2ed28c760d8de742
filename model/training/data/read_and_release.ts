/**
 * Reads tensors from the GPU to this machine's memory and frees them.
 *
 * @module
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import type { Tensor } from "../../../gpu/tensor.ts";

/** Returns the numbers of a tensor, and frees it. */
export async function readAndRelease(gpu: Gpu, tensor: Tensor): Promise<Float32Array> {
  try {
    return await gpu.read(tensor);
  } finally {
    gpu.release(tensor);
  }
}
