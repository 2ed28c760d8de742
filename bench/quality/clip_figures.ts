import type { Gpu } from "../../gpu/gpu.ts";
import type { AttentionReport } from "../../model/attention/report.ts";
import { fullAttention } from "../../model/attention/full.ts";
import type { GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import { MaskChurn } from "../../model/veda/mask_churn.ts";
import { flicker, psnr, ssim } from "../../model/video/quality.ts";
import type { Video } from "../../model/video/video.ts";

/** How a clip was made, and how much it is like that of full attention from the same noise. */
export interface ClipFigures extends Partial<Likeness> {
  /** The prompt's place in its file. */
  readonly prompt: number;
  readonly seconds: { readonly denoise: number; readonly decode: number };
  /** The share of the pairs of queries and keys that were multiplied; dense steps and layers count. */
  readonly density: number;
  /** The share of the selected tiles that were not selected in the step before, see `MaskChurn`. */
  readonly churn?: number | undefined;
}

/** A clip compared with full attention's. */
export interface Likeness {
  /** In dB; null if they are equal, because JSON has no infinity. */
  readonly psnr: number | null;
  readonly ssim: number;
  /** The change from frame to frame, over full attention's. */
  readonly flicker: number;
}

/**
 * Renders a clip and measures it.
 *
 * @param timed whether the seconds are what matters: then tiles are not compared with the step before, for `churn`
 */
export async function renderMeasured(
  gpu: Gpu,
  pipeline: VideoPipeline,
  prompt: number,
  { timed = false, ...options }: GenerateOptions & { readonly timed?: boolean },
): Promise<{ readonly video: Video; readonly figures: ClipFigures; readonly report: AttentionReport }> {
  const { attention = fullAttention } = options;
  using churn = new MaskChurn(gpu, pipeline.headShape.layers);
  let report: AttentionReport = { density: 1 }, begun = 0, denoised = 0;
  const video = await pipeline.generate({
    ...options,
    attention: timed
      ? attention
      : { ...attention, prepare: (task) => attention.prepare({ ...task, onTiles: churn.observe }) },
    onAttention: (made) => report = made,
    // The pipeline waits for the GPU before it reports a step: these times are true.
    onProgress: ({ stage, done }) => {
      if (stage !== "denoise") return;
      if (done === 0) begun = performance.now();
      else denoised = performance.now();
    },
  });
  const seconds = { denoise: (denoised - begun) / 1000, decode: (performance.now() - denoised) / 1000 };
  return { video, report, figures: { prompt, seconds, density: report.density, churn: await churn.read() } };
}

/** Compares a clip with full attention's. */
export function likenessOf(video: Video, full: Video): Likeness {
  const decibels = psnr(video.data, full.data);
  return {
    psnr: Number.isFinite(decibels) ? decibels : null,
    ssim: ssim(video, full),
    flicker: flicker(video, full),
  };
}
