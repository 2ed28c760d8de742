import type { Gpu } from "../../gpu/gpu.ts";

/**
 * The number of tensors of the tokens' size, in f32, that a denoising step holds at once beside the keys and values that
 * attention packs (`packedKeysBytes`): a block's input, q, k, v and the result of the norm while these are made, and more
 * for sparse attention. Where products read int8 or matrix units multiply, the norm's result is packed, in int8 to a
 * quarter, in f16 to a half, and v is in f16; attention's output is packed, or takes the place of q.
 */
export function liveTensors({ f16, int8, matrixUnits }: Pick<Gpu, "f16" | "int8" | "matrixUnits">): number {
  return !f16 || !int8 && !matrixUnits ? 5.2 : int8 ? 4.3 : 4.6;
}

/** The bytes of all else that a step holds, at most: latents, text and its keys, vectors. */
export const OTHER_BYTES = 1e8;
