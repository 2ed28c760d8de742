/**
 * Times short work on the GPU: by its own clock where there are timestamps, else by this machine's.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type ProfiledDispatch, Profiler } from "../profile/profiler.ts";

/** This machine's clock also counts what a wait takes: a sample has to be so long, in milliseconds, to drown that. */
const LONG_SAMPLE = 50;

/** See the module. */
export interface Stopwatch extends Disposable {
  /** Milliseconds of each of `count` runs of what `work` records. */
  time(work: () => void, count: number): Promise<number[]>;
}

/** Opens the best one that the adapter has. Nothing else may profile the `Gpu` meanwhile. */
export async function openStopwatch(gpu: Gpu): Promise<Stopwatch> {
  const { features } = gpu.settings.description;
  return features.includes("timestamp-query") && !gpu.profiler ? await gpuStopwatch(gpu) : wallStopwatch(gpu);
}

async function gpuStopwatch(gpu: Gpu): Promise<Stopwatch> {
  const profiler = await Profiler.start(gpu);
  return {
    async time(work, count) {
      await profiler.take();
      for (let i = 0; i < count; i++) work();
      const dispatches = await profiler.take();
      const length = dispatches.length / count;
      return Array.from({ length: count }, (_, i) => spanOf(dispatches.slice(i * length, (i + 1) * length)));
    },
    [Symbol.dispose]: () => profiler.stop(),
  };
}

/** From the first dispatch's begin to the last one's end. */
function spanOf(dispatches: readonly ProfiledDispatch[]): number {
  return (dispatches.at(-1)!.end - dispatches[0]!.begin) / 1e6;
}

/** The one that is always there. */
export function wallStopwatch(gpu: Gpu): Stopwatch {
  const sample = async (work: () => void, repeats: number) => {
    const start = performance.now();
    for (let i = 0; i < repeats; i++) work();
    await gpu.finish();
    return (performance.now() - start) / repeats;
  };
  return {
    async time(work, count) {
      await gpu.finish();
      const once = await sample(work, 1);
      if (count === 1) return [once];
      const repeats = Math.ceil(LONG_SAMPLE / once);
      const samples: number[] = [];
      while (samples.length < count) samples.push(await sample(work, repeats));
      return samples;
    },
    [Symbol.dispose]: () => {},
  };
}
