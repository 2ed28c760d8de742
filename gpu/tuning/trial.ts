import { Gpu } from "../gpu.ts";
import { relativeError } from "../relative_error.ts";
import type { FamilyChoice } from "./choices.ts";
import type { AnyFamily } from "./families.ts";
import type { Stopwatch } from "./stopwatch.ts";

/**
 * The largest relative error of a variant, against the plain kernels. Beyond it, the variant is wrong. The tests of
 * kernels hold every variant to it, so that a choice changes a clip no more than a precision's bound of parity allows.
 */
export const WRONG = { f32: 1e-5, f16: 1e-2 } as const;
/** The largest number of times that a variant is timed. The median counts. */
const ROUNDS = 5;
/** No further round begins after this many milliseconds of rounds, so a small GPU makes only one. */
const ENOUGH = 500;
/** A variant that takes this many times as long as the fastest is not timed again. */
const CLEARLY_SLOWER = 2;

/** How variants are timed. */
export interface Timing {
  readonly stopwatch: Stopwatch;
  /**
   * Milliseconds of work before times count. An idle GPU runs at a low clock, and it idles while kernels compile.
   */
  readonly warmUp: number;
  /** The time in milliseconds, as `performance.now` has it, after which no more variants are compiled. Default: never */
  readonly until?: number;
}

/** A variant that runs, and whose result is right. */
interface Candidate {
  readonly name: string;
  readonly work: () => void;
}

/**
 * Times the variants of a family: the one that is used now, then the others in their order, which is that of likely
 * speed. First all are compiled, then all are timed in turn, so that the GPU's clock is the same for all.
 *
 * @param onVariant called after each variant
 * @returns undefined if the operands did not fit, or no variant ran
 * @throws {TilereelError} when the device is lost
 */
export async function tryFamily(
  gpu: Gpu,
  family: AnyFamily,
  timing: Timing,
  onVariant: () => void,
): Promise<FamilyChoice | undefined> {
  const expected = await plainSample(gpu, family);
  const ms = await gpu.waitingScope(async () => {
    let record: ((variant: unknown) => void) | undefined;
    await gpu.attempt(() => record = family.trial(gpu));
    if (!record) return {};
    const used = gpu.kernels.reasonFor(family).variant, candidates: Candidate[] = [];
    const variants = [...family.variants(gpu)].sort(([a], [b]) => Number(b === used) - Number(a === used));
    for await (
      const compiled of compiledInTime(gpu, variants, timing.until, ([, variant]) => [
        () => record!(variant),
        () => family.sample(gpu, variant),
      ])
    ) {
      for (const [name, variant] of compiled) {
        const work = () => record!(variant);
        const runs = await isRight(gpu, family, variant, expected) && !await gpu.attempt(work);
        if (runs) candidates.push({ name, work });
        onVariant();
      }
    }
    return await timeInRounds(gpu, candidates, timing);
  });
  gpu.trim(); // Models need buffers of other sizes.
  const [best] = Object.entries(ms).sort(([, a], [, b]) => a - b);
  return best && { variant: best[0], ms };
}

/**
 * Compiles the kernels of variants ahead: of one, then of as many as there should be time for, which may be compiled at
 * once.
 */
async function* compiledInTime<V>(
  gpu: Gpu,
  variants: readonly V[],
  until = Infinity,
  works: (variant: V) => readonly (() => unknown)[],
): AsyncGenerator<readonly V[]> {
  for (let at = 0, count = 1; at < variants.length && (at === 0 || count > 0);) {
    const some = variants.slice(at, at + count), start = performance.now();
    await gpu.compileAhead(some.flatMap(works));
    yield some;
    at += some.length;
    const each = (performance.now() - start) / some.length, left = until - performance.now();
    count = left === Infinity ? variants.length : Math.floor(left / each);
  }
}

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

/** Keeps the GPU busy before times count, mostly with the fastest variant. */
async function warm(candidates: readonly Candidate[], { stopwatch, warmUp }: Timing): Promise<void> {
  const end = performance.now() + warmUp;
  const cold = await stopwatch.time(candidates.map(({ work }) => work)), fastest = Math.min(...cold);
  const work = candidates[cold.indexOf(fastest)]?.work;
  while (work && performance.now() < end) await stopwatch.time(Array(Math.ceil(warmUp / 10 / fastest)).fill(work));
}

/** @returns milliseconds by name; nothing if a variant failed that ran before */
async function timeInRounds(
  gpu: Gpu,
  candidates: readonly Candidate[],
  timing: Timing,
): Promise<Record<string, number>> {
  const times = new Map<string, number[]>(candidates.map(({ name }) => [name, []]));
  const median = (name: string) => {
    const sorted = times.get(name)!.sort((a, b) => a - b);
    return sorted[sorted.length >> 1]!;
  };
  const error = await gpu.attempt(async () => {
    let open = candidates;
    await warm(candidates, timing);
    for (let counted = 0, round = 0; round < ROUNDS && counted < ENOUGH; round++) {
      const spent = await timing.stopwatch.time(open.map(({ work }) => work));
      open.forEach(({ name }, i) => times.get(name)!.push(spent[i]!));
      counted += sum(spent);
      const fastest = Math.min(...open.map(({ name }) => median(name)));
      open = open.filter(({ name }) => median(name) <= CLEARLY_SLOWER * fastest);
    }
  });
  return error ? {} : Object.fromEntries(candidates.map(({ name }) => [name, median(name)]));
}

/** The result of the plain kernels for a family's sample, in f32; undefined where they do not run. */
async function plainSample(gpu: Gpu, family: AnyFamily): Promise<Float32Array | undefined> {
  const { device, settings } = gpu;
  const plain = new Gpu(device, { ...settings, kernels: "plain", precision: "f32" });
  let numbers: Float32Array | undefined;
  // Both report what goes wrong on the device that they share.
  await gpu.attempt(() =>
    plain.attempt(() => plain.waitingScope(async () => numbers = await plain.read(family.sample(plain))))
  );
  plain.trim();
  return numbers;
}

/** Whether a variant runs, and its result is that of the plain kernels. Drivers compile some kernels wrongly. */
async function isRight(
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
