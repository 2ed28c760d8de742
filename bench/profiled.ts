/**
 * Where the GPU's time goes in a piece of work.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import { Profiler } from "../gpu/profile/profiler.ts";
import { type Gaps, gapsBetween, kernelTimes, stretchesOf } from "../gpu/profile/summary.ts";

/** The GPU times of a piece of work, by kernel. */
export interface Profiled {
  readonly dispatches: number;
  /** Milliseconds in which kernels ran. */
  readonly busyMs: number;
  /** Share of the time, from the first dispatch to the last, in which no kernel ran. */
  readonly gaps: number;
  /** Shares of the busy time, the largest first. */
  readonly kernels: readonly { readonly kernel: string; readonly count: number; readonly share: number }[];
  /** Where the gaps are, the most first. */
  readonly between: readonly Gaps[];
}

/**
 * Runs work that has been warmed up once more and takes the time of every dispatch.
 *
 * @returns undefined where the adapter has no timestamps
 */
export async function profiled(gpu: Gpu, work: () => unknown): Promise<Profiled | undefined> {
  if (!gpu.settings.description.features.includes("timestamp-query")) return undefined;
  const profiler = await Profiler.start(gpu);
  try {
    await work();
    const dispatches = await profiler.take();
    const [all] = stretchesOf(dispatches);
    return {
      dispatches: dispatches.length,
      busyMs: all!.busy / 1e6,
      gaps: 1 - all!.busy / all!.span,
      kernels: kernelTimes(dispatches).map(({ kernel, count, time }) => ({ kernel, count, share: time / all!.busy })),
      between: gapsBetween(dispatches),
    };
  } finally {
    profiler.stop();
  }
}
