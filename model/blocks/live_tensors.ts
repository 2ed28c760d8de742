import type { Gpu } from "../../gpu/gpu.ts";
import { takesHalves } from "../../gpu/ops/attention.ts";

/**
 * The number of tensors of the tokens' size, in f32, that a denoising step holds at once beside the keys and values that
 * attention packs (`packedKeysBytes`): a block's input, q, k, v and the result of the norm while these are made, and more
 * for sparse attention. Where products read int8 or matrix units multiply, the norm's result is packed, in int8 to a
 * quarter, in f16 to a half, and v is in f16, unless attention in int8 packs it otherwise; attention's output is packed,
 * or takes the place of q.
 */
export function liveTensors(gpu: Gpu, { dim, heads }: { readonly dim: number; readonly heads: number }): number {
  const { f16, int8, matrixUnits } = gpu;
  if (!f16 || !int8 && !matrixUnits) return 5.2;
  return (int8 ? 4.3 : 4.6) + (takesHalves(gpu, dim, heads) ? 0 : 0.4);
}

/** The bytes of all else that a step holds, at most: latents, text and its keys, vectors. */
export const OTHER_BYTES = 1e8;
