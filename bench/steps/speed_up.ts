/**
 * Which share of full heads a speed-up allows.
 *
 * @module
 */

/** Time at a share. */
export interface Point {
  readonly share: number;
  readonly seconds: number;
}

/**
 * The share of full heads at which a step takes so many seconds. Heads cost what their branch costs, so time grows with
 * the share as a straight line; between measured shares it is taken to be one.
 *
 * @param points at least two shares
 * @returns undefined where no share is as fast; 1 where even full attention is
 */
export function shareFor(points: readonly Point[], seconds: number): number | undefined {
  const sorted = points.toSorted((a, b) => a.share - b.share);
  if (sorted[0]!.seconds > seconds) return undefined;
  for (const [i, above] of sorted.entries()) {
    if (above.seconds <= seconds) continue;
    const below = sorted[i - 1]!;
    return below.share + (above.share - below.share) * (seconds - below.seconds) / (above.seconds - below.seconds);
  }
  return sorted.at(-1)!.share;
}
