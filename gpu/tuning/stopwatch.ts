import type { Gpu } from "../gpu.ts";
import { Profiler } from "../profile/profiler.ts";

/** Where this machine's clock times work, which counts the wait, too, the work is repeated for these milliseconds. */
const LONG_SAMPLE = 50;

/** Measures how long short work takes on the GPU. */
export interface Stopwatch extends Disposable {
  /** Returns the milliseconds of what each function records. All run one after the other, without pauses. */
  time(works: readonly (() => void)[]): Promise<number[]>;
}

/** Opens the best stopwatch that the adapter has. Nothing else may profile the `Gpu` meanwhile. */
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
      return works.map((_, i) => {
        const some = dispatches.get(`${i}`)!;
        return (some.at(-1)!.end - some[0]!.begin) / 1e6;
      });
    },
    [Symbol.dispose]: () => profiler.stop(),
  };
}

/**
 * The stopwatch that every adapter has: this machine's clock.
 *
 * @param now the time in milliseconds
 */
export function wallStopwatch(gpu: Gpu, now = () => performance.now()): Stopwatch {
  const sample = async (work: () => void, repeats: number) => {
    const start = now();
    for (let i = 0; i < repeats; i++) work();
    await gpu.finish();
    return (now() - start) / repeats;
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
