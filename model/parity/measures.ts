/**
 * The largest error of a row: ‖out − ref‖ of the row over the root mean square of ‖ref‖ of all rows. In the error of
 * all rows together, one wrong row of 40,000 goes unnoticed. It is infinite where the lengths differ or a number is NaN.
 *
 * @param row the number of elements of a row
 */
export function rowError(out: ArrayLike<number>, ref: ArrayLike<number>, row: number): number {
  if (out.length !== ref.length || ref.length % row !== 0) return Infinity;
  let worst = 0, norm = 0;
  for (let first = 0; first < ref.length; first += row) {
    let difference = 0;
    for (let i = first; i < first + row; i++) {
      difference += (out[i]! - ref[i]!) ** 2;
      norm += ref[i]! ** 2;
    }
    // NaN must stay NaN.
    if (!(difference <= worst)) worst = difference;
  }
  const error = Math.sqrt(worst / (norm / (ref.length / row)));
  return Number.isNaN(error) ? Infinity : error;
}

/**
 * ‖out − ref‖ / ‖ref‖, where each row's difference is weighted by the row's share of `gradient`: the norm of the row
 * over that of an average row, at most 1. It is for parameters after steps of AdamW, which divides a gradient by its
 * own size. Where a row's gradient is nearly zero, rounding is a large part of it. Its steps are as long as any
 * other's, but their direction is arbitrary. Such a row changes the loss as little as its gradient says.
 *
 * @param row the number of elements of a row
 */
export function errorByGradient(
  out: ArrayLike<number>,
  ref: ArrayLike<number>,
  gradient: ArrayLike<number>,
  row: number,
): number {
  if (out.length !== ref.length || gradient.length !== ref.length || ref.length % row !== 0) return Infinity;
  const squares = new Float64Array(ref.length / row);
  for (let i = 0; i < ref.length; i++) squares[Math.floor(i / row)]! += gradient[i]! ** 2;
  const usual = squares.reduce((a, b) => a + b) / squares.length;
  let difference = 0, norm = 0;
  for (let i = 0; i < ref.length; i++) {
    difference += Math.min(1, squares[Math.floor(i / row)]! / usual) * (out[i]! - ref[i]!) ** 2;
    norm += ref[i]! ** 2;
  }
  const error = Math.sqrt(difference / norm);
  return Number.isNaN(error) ? Infinity : error;
}
