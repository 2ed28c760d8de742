/**
 * About how long a clip takes on an adapter, from clips that were made there.
 *
 * @module
 */
import type { ClipWork } from "./clip_time.ts";
import { RATES } from "./rates.ts";

/** A clip that was made, and its time. */
export interface TimedClip {
  readonly work: ClipWork;
  readonly seconds: number;
}

/** What takes time: products, self-attention, decoding, and what is the same for all clips. */
type Parts = readonly [linear: number, attention: number, decode: number, fixed: number];

/** Times are fitted by their ratios, again and again, so that a slow first clip, which compiles kernels, counts little. */
const ROUNDS = 20, SWEEPS = 200;
/** How much what is expected counts, in clips: it decides what clips of one kind leave open. */
const EXPECTED = 0.01;
/** The share of a clip's time that decoding is expected to take. */
const DECODING = 0.1;

/** What the parts of a clip's time are in proportion to; the first two are in proportion to each other, too. */
function partsOf({ linear, attention, density, pixels, width }: ClipWork): Parts {
  const rates = RATES.threads.f16[width];
  return [linear / rates.linear, attention * density / rates.dense, pixels, 1];
}

/**
 * Fits times of clips: each part of the work takes time in proportion, and none takes less than none.
 *
 * @param clips at least one
 * @returns the seconds of a clip
 */
export function fittedSeconds(clips: readonly TimedClip[]): (work: ClipWork) => number {
  const rows = clips.map(({ work, seconds }) => ({ parts: partsOf(work), seconds }));
  // Until clips of several kinds say more, the parts are as slow as the middle clip says.
  const steps = median(rows.map(({ parts: [linear, attention], seconds }) => seconds / (linear + attention)));
  const decode = median(rows.map(({ parts: [, , pixels], seconds }) => seconds / pixels));
  const usual = [(1 - DECODING) * steps, (1 - DECODING) * steps, DECODING * decode, 0];
  let factors = usual, weights = rows.map(() => 1);
  for (let round = 0; round < ROUNDS; round++) {
    factors = solved(rows, weights, usual);
    weights = rows.map(({ parts, seconds }) => 1 / Math.max(0.03, Math.abs(total(parts, factors) / seconds - 1)));
    const most = Math.max(...weights);
    weights = weights.map((weight) => weight / most);
  }
  return (work) => total(partsOf(work), factors);
}

/** Factors of at least 0 with the least weighted squares of relative errors, found one after the other, again and again. */
function solved(
  rows: readonly { readonly parts: Parts; readonly seconds: number }[],
  weights: readonly number[],
  usual: readonly number[],
): number[] {
  const factors = [...usual], count = rows.length;
  // The columns as shares of the time, so that what is expected counts alike for all.
  const columns = usual.map((_, part) => rows.map(({ parts, seconds }) => parts[part]! / seconds));
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (const [part, column] of columns.entries()) {
      const scale = column.reduce((sum, share) => sum + share ** 2, 0) / count * EXPECTED;
      let above = scale * usual[part]!, below = scale;
      for (const [i, { parts, seconds }] of rows.entries()) {
        const others = total(parts, factors) / seconds - column[i]! * factors[part]!;
        above += weights[i]! * column[i]! * (1 - others);
        below += weights[i]! * column[i]! ** 2;
      }
      factors[part] = Math.max(0, above / below);
    }
  }
  return factors;
}

function total(parts: readonly number[], factors: readonly number[]): number {
  return parts.reduce((sum, part, i) => sum + part * factors[i]!, 0);
}

/** The median of at least one number; of an even number the lower one. */
export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)]!;
}
