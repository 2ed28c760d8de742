/**
 * Timing work on the GPU by the wall clock.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import { countFlops } from "./flops.ts";

/** What was measured. */
export interface Measurement {
  /** Median time of one run of the work. */
  readonly ms: number;
  /** (slowest − fastest) / median. */
  readonly spread: number;
  /** Samples taken. */
  readonly samples: number;
  /** Floating-point operations of one run. */
  readonly flops: number;
  readonly gflopsPerSecond: number;
}

const SAMPLES = 5;
/**
 * A sample repeats the work until it takes so long. Deno looks every 10 ms whether a device is done: what that takes on
 * average is subtracted, and by how much it varies is little beside this.
 */
const SAMPLE_MS = 300;
const MOST_REPEATS = 1000;
/** No more samples are begun after so long. */
const BUDGET_MS = 3000;

/**
 * Warms up, then times.
 *
 * @param work records, and may wait; frees what it makes
 * @param least samples that are always taken
 */
export async function measure(gpu: Gpu, work: () => unknown, { least = 3 } = {}): Promise<Measurement> {
  const flops = await countFlops(gpu, work); // also compiles the kernels and allocates the memory
  const wait = await idleWait(gpu);
  const once = await time(gpu, work, 1, wait);
  const repeats = Math.max(1, Math.min(MOST_REPEATS, Math.round(SAMPLE_MS / once)));
  // Work that takes so long that it runs as rarely as possible needs no further warming up.
  const samples = once > BUDGET_MS ? [once] : [];
  for (
    let spent = 0;
    samples.length < least || samples.length < SAMPLES && spent < BUDGET_MS && once <= BUDGET_MS;
    spent += samples.at(-1)! * repeats
  ) {
    samples.push(await time(gpu, work, repeats, wait));
  }
  samples.sort((a, b) => a - b);
  const ms = samples[samples.length >> 1]!;
  return {
    ms,
    spread: (samples.at(-1)! - samples[0]!) / ms,
    samples: samples.length,
    flops,
    gflopsPerSecond: flops / ms / 1e6,
  };
}

/** Milliseconds a run, less the wait. */
async function time(gpu: Gpu, work: () => unknown, repeats: number, wait: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < repeats; i++) await work();
  await gpu.finish();
  const elapsed = performance.now() - start;
  // Work that is done before the device is first looked at takes no longer than the wait: then nothing can be said of
  // it.
  return Math.max(elapsed - wait, elapsed / 10) / repeats;
}

/** Milliseconds that waiting for a device takes which has nothing to do: the median of some. */
async function idleWait(gpu: Gpu): Promise<number> {
  await gpu.finish();
  const waits: number[] = [];
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    await gpu.finish();
    waits.push(performance.now() - start);
  }
  return waits.sort((a, b) => a - b)[2]!;
}
