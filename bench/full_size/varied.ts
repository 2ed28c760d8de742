/**
 * Checks that numbers look computed.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";

/**
 * Returns the standard deviation.
 *
 * @throws {TilereelError} if a number is not finite, or all are equal
 */
export function assertVaried(numbers: Float32Array | Uint8Array, what: string): number {
  let sum = 0, squares = 0;
  for (const x of numbers) {
    sum += x;
    squares += x * x;
  }
  const mean = sum / numbers.length, std = Math.sqrt(Math.max(0, squares / numbers.length - mean * mean));
  if (!Number.isFinite(std)) throw new TilereelError(`${what} hold numbers that are not finite`);
  if (std === 0) throw new TilereelError(`${what} hold the same number, ${mean}, everywhere`);
  return std;
}
