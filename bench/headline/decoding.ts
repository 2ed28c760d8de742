import type { Gpu } from "../../gpu/gpu.ts";
import type { Progress } from "../../model/progress.ts";
import type { VideoVae } from "../../model/family.ts";
import { warmUp } from "../measure.ts";
import { normalTensor } from "../random.ts";

/** The time of decoding a clip. */
export interface DecodeTime {
  readonly seconds: number;
  /** The share of the clip that was decoded, from which the seconds are computed. */
  readonly share: number;
}

/** Latent frames (of all tiles) that are decoded first, to compile kernels. */
export const WARM_UP = 3;

/**
 * Times the decoding of random latents. If it takes longer than so many seconds, it is stopped, and the time of the
 * tiles, or of the chunks of frames, that were finished is scaled up to all.
 *
 * @param shape of the latents
 */
export async function timeDecode(
  gpu: Gpu,
  vae: VideoVae,
  shape: readonly number[],
  longest: number,
): Promise<DecodeTime> {
  const latents = normalTensor(gpu, shape);
  try {
    const some = () => decodeUntil(vae, latents, ({ done }) => done >= WARM_UP);
    await some();
    await warmUp(gpu, some);
    const times: { readonly done: number; readonly ms: number }[] = [];
    const start = performance.now();
    const total = await decodeUntil(vae, latents, ({ done }) => {
      const ms = performance.now() - start;
      times.push({ done, ms });
      return ms > 1000 * longest;
    });
    const end = performance.now() - start, { done } = times.at(-1)!;
    // All of it ends after the last report.
    return { seconds: (done === total ? end : times.at(-1)!.ms * total / done) / 1000, share: done / total };
  } finally {
    gpu.release(latents);
    gpu.trim();
  }
}

/** Decodes until a report says that it is enough, or all is done. Returns what the reports count to. */
async function decodeUntil(
  vae: VideoVae,
  latents: Parameters<VideoVae["decodeRgb8"]>[0],
  isEnough: (progress: Progress) => boolean,
): Promise<number> {
  const enough = new AbortController();
  let total = 0;
  try {
    await vae.decodeRgb8(latents, {
      signal: enough.signal,
      onProgress: (progress) => {
        total = progress.total;
        if (progress.done > 0 && isEnough(progress)) enough.abort();
      },
    });
  } catch (error) {
    if (!enough.signal.aborted) throw error;
  }
  return total;
}
