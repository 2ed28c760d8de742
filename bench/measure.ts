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
/** A sample repeats the work until it takes so long: waiting for the device costs a millisecond or so. */
const SAMPLE_MS = 100;
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
  const once = await time(gpu, work, 1);
  const repeats = Math.max(1, Math.min(50, Math.round(SAMPLE_MS / once)));
  // What takes so long that it is done only as often as it must be is as warm as it will be.
  const samples = once > BUDGET_MS ? [once] : [];
  for (
    let spent = 0;
    samples.length < least || samples.length < SAMPLES && spent < BUDGET_MS && once <= BUDGET_MS;
    spent += samples.at(-1)! * repeats
  ) {
    samples.push(await time(gpu, work, repeats));
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

/** Milliseconds a run. */
async function time(gpu: Gpu, work: () => unknown, repeats: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < repeats; i++) await work();
  await gpu.finish();
  return (performance.now() - start) / repeats;
}
