/** ‖out − ref‖ / ‖ref‖. It is infinite where the lengths differ or a number is NaN. */
export function relativeError(out: ArrayLike<number>, ref: ArrayLike<number>): number {
  if (out.length !== ref.length) return Infinity;
  let difference = 0, norm = 0;
  for (let i = 0; i < ref.length; i++) {
    difference += (out[i]! - ref[i]!) ** 2;
    norm += ref[i]! ** 2;
  }
  const error = Math.sqrt(difference / norm);
  return Number.isNaN(error) ? Infinity : error;
}
