/**
 * The trial of one family of kernels.
 *
 * @module
 */
import { Gpu } from "../gpu.ts";
import { relativeError } from "../relative_error.ts";
import type { FamilyChoice } from "./cache.ts";
import type { AnyFamily } from "./families.ts";
import type { Stopwatch } from "./stopwatch.ts";

/** A variant that is farther from the plain kernels than this computes something else. */
const WRONG = { f32: 1e-4, f16: 3e-2 } as const;
/** Runs of a variant, at most, of which the median counts. */
const RUNS = 5;
/** Milliseconds after which a variant is not run again: on a small GPU one run has to do. */
const ENOUGH = 400;
/** A variant that takes so many times as long as the fastest is not run again. */
const CLEARLY_SLOWER = 3;
/** Milliseconds of work before a variant is timed: an idle GPU runs at a low clock, and it idles while kernels compile. */
const WARM_UP = 60;
/** Runs of the warm-up, at most. */
const WARM_UP_RUNS = 100;

/** Work, and the milliseconds that it takes. */
interface Timed {
  readonly work: () => void;
  readonly ms: number;
}

/**
 * Times every variant of a family.
 *
 * @param onVariant told after each variant
 * @returns undefined when there was no room for the operands, or no variant ran
 * @throws {TilereelError} when the device is lost
 */
export async function tryFamily(
  gpu: Gpu,
  family: AnyFamily,
  stopwatch: Stopwatch,
  onVariant: () => void,
): Promise<FamilyChoice | undefined> {
  const expected = await plainSample(gpu, family);
  const ms = await gpu.waitingScope(async () => {
    const ms: Record<string, number> = {};
    let fastest: Timed | undefined;
    let record: ((variant: unknown) => void) | undefined;
    await gpu.attempt(() => record = family.trial(gpu));
    if (!record) return ms;
    for (const [name, variant] of family.variants(gpu)) {
      const right = await computesWell(gpu, family, variant, expected);
      const work = () => record!(variant);
      const time = right ? await tryVariant(gpu, work, stopwatch, fastest) : undefined;
      if (time !== undefined) ms[name] = time;
      if (time !== undefined && time < (fastest?.ms ?? Infinity)) fastest = { work, ms: time };
      onVariant();
    }
    return ms;
  });
  gpu.trim(); // Models want buffers of other sizes.
  const [best] = Object.entries(ms).sort(([, a], [, b]) => a - b);
  return best && { variant: best[0], ms };
}

/** What the plain kernels make of a family's sample, in f32; undefined where they do not run. */
async function plainSample(gpu: Gpu, family: AnyFamily): Promise<Float32Array | undefined> {
  const { device, settings } = gpu;
  const plain = new Gpu(device, {
    ...settings,
    precision: "f32",
    description: { ...settings.description, software: true },
  });
  let numbers: Float32Array | undefined;
  await plain.attempt(() => plain.waitingScope(async () => numbers = await plain.read(family.sample(plain))));
  plain.trim();
  return numbers;
}

/** Whether a variant runs, and agrees with the plain kernels: drivers compile some kernels wrongly. */
async function computesWell(
  gpu: Gpu,
  family: AnyFamily,
  variant: unknown,
  expected: Float32Array | undefined,
): Promise<boolean> {
  let error = Infinity;
  await gpu.attempt(() =>
    gpu.waitingScope(async () => {
      const numbers = await gpu.read(family.sample(gpu, variant));
      error = expected ? relativeError(numbers, expected) : 0;
    })
  );
  return error <= WRONG[gpu.settings.precision];
}

/**
 * @param fastest of the variants before: it warms the GPU, too, for a slow one need not run often
 * @returns milliseconds; undefined when the variant does not run
 */
async function tryVariant(
  gpu: Gpu,
  work: () => void,
  stopwatch: Stopwatch,
  fastest: Timed | undefined,
): Promise<number | undefined> {
  let ms: number | undefined;
  const error = await gpu.attempt(async () => {
    work(); // compiles
    await gpu.finish();
    const warm = fastest ?? { work, ms: (await stopwatch.time(work, 1))[0]! };
    for (let left = Math.min(WARM_UP_RUNS, WARM_UP / warm.ms); left > 0; left--) warm.work();
    const [once] = await stopwatch.time(work, 1) as [number];
    const runs = Math.min(RUNS, Math.floor(ENOUGH / once));
    if (runs < 2 || once > CLEARLY_SLOWER * (fastest?.ms ?? Infinity)) ms = once;
    else ms = (await stopwatch.time(work, runs)).sort((a, b) => a - b)[runs >> 1];
  });
  return error ? undefined : ms;
}
