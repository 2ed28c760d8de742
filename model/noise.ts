import { check, wholeNumber } from "../gpu/common/check_options.ts";

/** The largest seed. Seeds have 32 bits. */
export const LARGEST_SEED = 2 ** 32 - 1;

/**
 * Normally distributed numbers, mean 0 and variance 1: those of PyTorch's CPU generator, so that a seed gives the same
 * noise as in diffusers (`torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))`).
 *
 * @param count how many numbers; at least 16, because PyTorch draws fewer in another way
 * @param seed an integer, of which the low 32 bits are used
 */
export function randn(count: number, seed: number): Float32Array<ArrayBuffer> {
  return normalNumbers(seed)(count);
}

/**
 * Returns a function that draws normally distributed numbers, as {@link randn} does, and goes on where it stopped. So
 * does a generator of PyTorch.
 *
 * @param seed an integer, of which the low 32 bits are used
 */
export function normalNumbers(seed: number): (count: number) => Float32Array<ArrayBuffer> {
  check("randn: seed", seed, { expected: "a whole number", fits: Number.isSafeInteger });
  const uniform = uniformNumbers(seed);
  return (count) => {
    check("randn: count", count, wholeNumber(16));
    const noise = new Float32Array(count);
    for (let i = 0; i < count; i++) noise[i] = uniform();
    for (let at = 0; at + 16 <= count; at += 16) boxMuller(noise, at);
    if (count % 16 !== 0) {
      for (let i = count - 16; i < count; i++) noise[i] = uniform();
      boxMuller(noise, count - 16);
    }
    return noise;
  };
}

/** Normally distributed numbers of a seed, from the first on or from where somebody else stopped to draw. */
export class Noise {
  readonly #numbers: (count: number) => Float32Array<ArrayBuffer>;
  /** How often numbers are to be drawn to get there. */
  #behind: number;
  #ahead: Float32Array<ArrayBuffer> | undefined;

  /** @param draws how often {@link draw} was called before, with the same count each time */
  constructor(seed: number, public draws = 0) {
    this.#numbers = normalNumbers(seed);
    this.#behind = draws;
  }

  /** Draws what {@link draw} gives next, where there is nothing else to do. */
  drawAhead(count: number): void {
    this.#ahead = this.draw(count);
    this.draws--;
  }

  /** The next numbers, as {@link normalNumbers} draws them. */
  readonly draw = (count: number): Float32Array<ArrayBuffer> => {
    const drawn = this.#ahead;
    if (drawn) {
      this.#ahead = undefined;
      this.draws++;
      return drawn;
    }
    // Only a scheduler that adds noise needs to get there.
    for (; this.#behind > 0; this.#behind--) this.#numbers(count);
    this.draws++;
    return this.#numbers(count);
  };
}

/**
 * A function that gives numbers one after the other, uniform in [0, 1): those of `torch.rand` with the same seed.
 *
 * @param seed an integer, of which the low 32 bits are used
 */
export function uniformNumbers(seed: number): () => number {
  const random = mersenneTwister(seed);
  return () => (random() & 0xffffff) / 2 ** 24;
}

/** Converts 16 uniform numbers from `at` on to normal ones. The first eight give the radii, the last eight the angles. */
function boxMuller(x: Float32Array, at: number): void {
  for (let i = at; i < at + 8; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - x[i]!)), angle = 2 * Math.PI * x[i + 8]!;
    x[i] = radius * Math.cos(angle);
    x[i + 8] = radius * Math.sin(angle);
  }
}

/** MT19937 (Matsumoto and Nishimura 1998): a function that gives the next 32 random bits. */
function mersenneTwister(seed: number): () => number {
  const N = 624, M = 397;
  const state = new Uint32Array(N);
  state[0] = seed;
  for (let i = 1; i < N; i++) {
    const s = state[i - 1]! ^ state[i - 1]! >>> 30;
    state[i] = Math.imul(1812433253, s) + i;
  }
  let next = N;
  const mix = (i: number, following: number, far: number) => {
    const y = state[i]! & 0x80000000 | state[following]! & 0x7fffffff;
    state[i] = state[far]! ^ y >>> 1 ^ -(y & 1) & 0x9908b0df;
  };
  const twist = () => {
    for (let i = 0; i < N - M; i++) mix(i, i + 1, i + M);
    for (let i = N - M; i < N - 1; i++) mix(i, i + 1, i + M - N);
    mix(N - 1, 0, M - 1);
    next = 0;
  };
  return () => {
    if (next === N) twist();
    let y = state[next++]!;
    y ^= y >>> 11;
    y ^= y << 7 & 0x9d2c5680;
    y ^= y << 15 & 0xefc60000;
    return (y ^ y >>> 18) >>> 0;
  };
}
