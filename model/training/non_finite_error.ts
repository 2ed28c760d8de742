/**
 * The error of a training whose numbers are no longer finite.
 *
 * @module
 */

/** A loss, a gradient or a parameter is NaN or infinite. */
export class NonFiniteError extends Error {
  override name = "NonFiniteError";

  /** @param layer the first layer with such a number; undefined if it is in none */
  constructor(readonly layer: number | undefined) {
    super(`a number ${layer === undefined ? "outside the layers" : `in layer ${layer}`} is not finite`);
  }
}
