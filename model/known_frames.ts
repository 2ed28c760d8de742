import type { Gpu } from "../gpu/gpu.ts";
import type { Tensor } from "../gpu/tensor.ts";

/**
 * Latents whose first frames are known.
 *
 * @param latents [1, channels, frames, height, width]
 * @param known [1, channels, first frames, height, width]
 * @returns a copy with the known frames in place of the first
 */
export function withFirstFrames(gpu: Gpu, latents: Tensor, known: Tensor): Tensor {
  const [, channels, frames, ...size] = latents.shape as [number, number, number, number, number], count = known.dim(2);
  const y = gpu.tensor(latents.shape), into = y.reshape([channels * frames, ...size]);
  const from = known.reshape([channels * count, ...size]);
  gpu.copy(latents, y);
  for (let c = 0; c < channels; c++) gpu.copy(from.slice(c * count, count), into.slice(c * frames, count));
  return y;
}
