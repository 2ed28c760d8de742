import type { Gpu } from "../gpu/gpu.ts";
import { Profiler } from "../gpu/profile/profiler.ts";
import { type Gaps, gapsBetween, kernelTimes, stretchesOf } from "../gpu/profile/summary.ts";

/** The GPU times of a piece of work. */
export interface Profiled {
  readonly dispatches: number;
  /** The milliseconds in which kernels ran. */
  readonly busyMs: number;
  /** The share of the time from the first dispatch to the last in which no kernel ran. */
  readonly gaps: number;
  /** The shares of the busy time, the largest first. */
  readonly kernels: readonly { readonly kernel: string; readonly count: number; readonly share: number }[];
  /** The pairs of kernels between which gaps are, the largest gaps first. */
  readonly between: readonly Gaps[];
}

/**
 * Runs work that is already warm once more and times every dispatch.
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
