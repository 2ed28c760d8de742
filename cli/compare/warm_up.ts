import type { GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { OnProgress } from "../../model/progress.ts";

/**
 * Even such a short schedule covers all noise levels, so routed heads take all of their routes.
 */
const STEPS = 4;

/**
 * Runs every setting once before anything is timed: kernels are compiled when they are first used, and the text encoder
 * is read when a prompt is first encoded. A few steps are taken with each clip at its true size, because kernels are
 * chosen by size. Only the first is decoded.
 */
export async function warmUp(
  pipeline: VideoPipeline,
  clips: readonly GenerateOptions[],
  onProgress: OnProgress,
  signal?: AbortSignal,
): Promise<void> {
  for (const [i, { sigmas, ...clip }] of clips.entries()) {
    // A list of noise levels would have its own number of steps.
    const spaced = typeof sigmas === "string" ? { sigmas } : {};
    const short = { ...clip, ...spaced, steps: STEPS, guidance: 1, onProgress, ...signal && { signal } };
    if (i === 0) await pipeline.generate(short);
    else await denoiseOnly(pipeline, short);
  }
}

async function denoiseOnly(pipeline: VideoPipeline, clip: GenerateOptions): Promise<void> {
  const enough = new AbortController();
  const onStep = (_: unknown, step: number) => {
    if (step === STEPS - 2) enough.abort();
  };
  try {
    const signal = AbortSignal.any([enough.signal, ...clip.signal ? [clip.signal] : []]);
    await pipeline.generate({ ...clip, onStep, signal });
  } catch (error) {
    if (error !== enough.signal.reason) throw error;
  }
}
