/**
 * What the names and shapes of weights say of their model, for files that come without `config.json`.
 *
 * @module
 */
import { elementCount } from "./dtype.ts";
import type { TensorSource } from "./tensor_source.ts";

/**
 * How many there are of something that names count from 0: one more than the largest number.
 *
 * @param numbered has the number as its first group
 */
export function countOf(weights: TensorSource, numbered: RegExp): number {
  return weights.names().reduce((most, name) => Math.max(most, 1 + Number(numbered.exec(name)?.[1] ?? -1)), 0);
}

/**
 * The shape of a tensor.
 *
 * @throws {TilereelError} if there is none of that name
 */
export function shapeOf(weights: TensorSource, name: string): readonly [first: number, second: number, third: number] {
  const [first = 1, second = 1, third = 1] = weights.info(name).shape;
  return [first, second, third];
}

/** The length of a vector, which a file may have with further axes of length 1. */
export function lengthOf(weights: TensorSource, name: string): number {
  return elementCount(weights.info(name).shape);
}
