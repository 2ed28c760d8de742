/**
 * How far an output is from its reference.
 *
 * @module
 */

export { relativeError } from "../../gpu/relative_error.ts";

/**
 * The largest error of a row: ‖out − ref‖ of a row over ‖ref‖ of a row on average (the root of the mean square).
 * Where {@link relativeError} is the error of all rows together, in which one wrong row of 40,000 is lost, here it
 * stands alone. Infinite where the lengths differ or a number is none.
 *
 * @param row numbers of a row
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
    // So that NaN stays what it is.
    if (!(difference <= worst)) worst = difference;
  }
  const error = Math.sqrt(worst / (norm / (ref.length / row)));
  return Number.isNaN(error) ? Infinity : error;
}

/**
 * ‖out − ref‖ / ‖ref‖, where each row's difference counts by the row's share of `gradient`: the norm of the row over
 * that of a row on average, at most 1. For parameters after steps of AdamW, which divides a gradient by its own size:
 * where a row's gradient is nearly nothing, so that rounding is a large part of it, its steps are as long as any
 * other's and point anywhere. What such a row changes of the loss is as small as its gradient.
 *
 * @param row numbers of a row
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
