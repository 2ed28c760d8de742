import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Conditioning } from "../family.ts";
import { withFirstFrames } from "../known_frames.ts";

/**
 * What a transformer takes in place of noisy latents: with the frames that are known in place of theirs, and with the
 * channels that stand behind theirs.
 *
 * @param latents [1, channels, frames, height, width]
 * @returns [1, channels and those of the conditioning, frames, height, width]
 */
export function conditioned(gpu: Gpu, latents: Tensor, { frames, channels }: Conditioning): Tensor {
  return gpu.scope(() => {
    const known = frames ? withFirstFrames(gpu, latents, frames) : latents;
    if (!channels) return known;
    const [, own, ...size] = latents.shape as [number, number, ...number[]], others = channels.dim(1);
    const y = gpu.tensor([1, own + others, ...size]), rows = y.reshape(y.shape.slice(1));
    gpu.copy(known, rows.slice(0, own));
    gpu.copy(channels, rows.slice(own, others));
    return y;
  });
}
