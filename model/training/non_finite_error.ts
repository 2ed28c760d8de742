/** A loss, a gradient or a parameter of a training is NaN or infinite. */
export class NonFiniteError extends Error {
  override name = "NonFiniteError";

  /** @param layer the first layer with such a number; undefined if it is in none */
  constructor(readonly layer: number | undefined) {
    super(`a number ${layer === undefined ? "outside the layers" : `in layer ${layer}`} is not finite`);
  }
}
