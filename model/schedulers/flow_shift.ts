/**
 * Noise levels of flow matching.
 *
 * @module
 */

/** `count` numbers from `first` to `last`, evenly spaced; the first alone if there is but one. */
export function linspace(first: number, last: number, count: number): number[] {
  const step = count > 1 ? (last - first) / (count - 1) : 0;
  return Array.from({ length: count }, (_, i) => i === count - 1 && count > 1 ? last : first + i * step);
}

/** Moves a noise level `sigma` in 0…1 towards 1: a `shift` above 1 makes the steps dwell on high noise. */
export function flowShift(sigma: number, shift: number): number {
  return shift * sigma / (1 + (shift - 1) * sigma);
}
