import type { Gpu } from "../gpu/gpu.ts";
import { countFlops } from "./flops.ts";

/** A measurement. */
export interface Measurement {
  /** The median time of one run of the work. */
  readonly ms: number;
  /** (slowest − fastest) / median. */
  readonly spread: number;
  readonly samples: number;
  /** The floating-point operations of one run. */
  readonly flops: number;
  readonly gflopsPerSecond: number;
}

/**
 * The length of a sample, for which short work is repeated. Deno looks only every 10 ms whether a device is done. The
 * mean of that wait is subtracted, and its variation is small beside a sample of this length.
 */
const SAMPLE_MS = 300;
const MOST_REPEATS = 1000;
/** No further sample begins after this time. */
const BUDGET_MS = 3000;

/**
 * Warms up, then times work on the GPU by the wall clock.
 *
 * @param work records work and may wait; it frees what it makes
 * @param least the number of samples that are always taken
 * @param most the number of samples of work that takes less than seconds
 */
export async function measure(gpu: Gpu, work: () => unknown, { least = 3, most = 5 } = {}): Promise<Measurement> {
  const flops = await countFlops(gpu, work); // also compiles the kernels and allocates the memory
  const wait = await idleWait(gpu);
  const once = await time(gpu, work, 1, wait);
  const repeats = Math.max(1, Math.min(MOST_REPEATS, Math.round(SAMPLE_MS / once)));
  // Long work runs as rarely as possible, so the second warm-up counts as a sample.
  const samples = once > BUDGET_MS ? [once] : [];
  for (
    let spent = 0;
    samples.length < least || samples.length < most && spent < BUDGET_MS && once <= BUDGET_MS;
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

/** The milliseconds of one run, without the wait. */
async function time(gpu: Gpu, work: () => unknown, repeats: number, wait: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < repeats; i++) await work();
  await gpu.finish();
  const elapsed = performance.now() - start;
  // Work that ends before Deno first looks takes no longer than the wait, so its time is unknown.
  return Math.max(elapsed - wait, elapsed / 10) / repeats;
}

/** The median of the milliseconds that waiting for an idle device takes. */
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
