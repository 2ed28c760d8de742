/**
 * Times short work on the GPU: by its own clock where there are timestamps, else by this machine's.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type ProfiledDispatch, Profiler } from "../profile/profiler.ts";

/** This machine's clock also counts what a wait takes: a sample has to be so long, in milliseconds, to drown that. */
const LONG_SAMPLE = 50;

/** Measures how long recorded work takes. */
export interface Stopwatch extends Disposable {
  /**
   * Milliseconds that each work took, of those that the functions record; one runs after the other, with no pause that
   * can be helped.
   */
  time(works: readonly (() => void)[]): Promise<number[]>;
}

/** Opens the best one that the adapter has. Nothing else may profile the `Gpu` meanwhile. */
export async function openStopwatch(gpu: Gpu): Promise<Stopwatch> {
  const { features } = gpu.settings.description;
  return features.includes("timestamp-query") && !gpu.profiler ? await gpuStopwatch(gpu) : wallStopwatch(gpu);
}

async function gpuStopwatch(gpu: Gpu): Promise<Stopwatch> {
  const profiler = await Profiler.start(gpu);
  return {
    async time(works) {
      await profiler.take();
      works.forEach((work, i) => profiler.labelled(`${i}`, work));
      const dispatches = Map.groupBy(await profiler.take(), ({ labels }) => labels[0]!.name);
      return works.map((_, i) => spanOf(dispatches.get(`${i}`)!));
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
    async time(works) {
      await gpu.finish();
      const times: number[] = [];
      for (const work of works) {
        const once = await sample(work, 1), repeats = Math.ceil(LONG_SAMPLE / once);
        times.push(repeats > 1 ? await sample(work, repeats) : once);
      }
      return times;
    },
    [Symbol.dispose]: () => {},
  };
}
