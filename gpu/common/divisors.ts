/** The largest number that divides both. */
export function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** The smallest number that both divide. */
export function leastCommonMultiple(a: number, b: number): number {
  return a / greatestCommonDivisor(a, b) * b;
}
