import type { Gpu } from "../../gpu/gpu.ts";

/**
 * The number of tensors of the tokens' size, in f32, that a denoising step holds at once beside the keys and values that
 * attention packs (`packedKeysBytes`): a block's input, q, k, v and the output of attention, and more for sparse
 * attention, the angles of RoPE, and latents. For matrix units, all operands are packed: in int8 a quarter of a tensor,
 * in f16 half of one.
 */
export function liveTensors({ f16, int8, matrixUnits }: Pick<Gpu, "f16" | "int8" | "matrixUnits">): number {
  if (int8) return f16 ? 5.5 : 6.5;
  return matrixUnits ? 6.5 : f16 ? 6 : 6.5;
}
