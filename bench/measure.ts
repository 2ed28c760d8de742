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
/** Milliseconds of work until a GPU has its full clock: an H200 that pauses for half a second runs at a sixth of it. */
const WARM_UP_MS = 2200, PAUSE_MS = 500;
/** No further sample begins after this time. */
const BUDGET_MS = 3000;

/** From when to when each GPU was at work without a pause, as this machine's clock says. */
const AT_WORK = new WeakMap<Gpu, { readonly since: number; readonly until: number }>();

/**
 * Warms up, then times work on the GPU by the wall clock.
 *
 * @param work records work and may wait; it frees what it makes
 * @param least the number of samples that are always taken
 * @param most the number of samples of work that takes less than seconds
 */
export async function measure(gpu: Gpu, work: () => unknown, { least = 3, most = 5 } = {}): Promise<Measurement> {
  const begun = performance.now();
  const flops = await countFlops(gpu, work); // also compiles the kernels and allocates the memory
  const compiled = performance.now(), wait = await idleWait(gpu);
  let once = await time(gpu, work, 1, wait);
  const repeatsOf = (once: number) => Math.max(1, Math.min(MOST_REPEATS, Math.round(SAMPLE_MS / once)));
  // The GPU was idle for as long as the first run took longer than the second.
  const before = AT_WORK.get(gpu), idle = begun - (before?.until ?? -Infinity) + Math.max(0, compiled - begun - once);
  const since = before && idle < PAUSE_MS ? before.since : compiled - once;
  while (!gpu.settings.description.software && performance.now() - since < WARM_UP_MS) {
    once = await time(gpu, work, repeatsOf(once), wait);
  }
  const repeats = repeatsOf(once);
  // Long work runs as rarely as possible, so the second warm-up counts as a sample.
  const samples = once > BUDGET_MS ? [once] : [];
  for (
    let spent = 0;
    samples.length < least || samples.length < most && spent < BUDGET_MS && once <= BUDGET_MS;
    spent += samples.at(-1)! * repeats
  ) {
    samples.push(await time(gpu, work, repeats, wait));
  }
  AT_WORK.set(gpu, { since, until: performance.now() });
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

/** Repeats work until the GPU has its full clock; software adapters have no other. */
export async function warmUp(gpu: Gpu, work: () => Promise<unknown>): Promise<void> {
  if (gpu.settings.description.software) return;
  for (const end = performance.now() + WARM_UP_MS; performance.now() < end;) await work();
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
