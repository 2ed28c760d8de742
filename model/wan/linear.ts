/**
 * A linear layer's weights.
 *
 * @module
 */
import type { Tensor } from "../../gpu/tensor.ts";
import type { Weights } from "../weights.ts";

/** Weight and bias of a linear layer. */
export interface Linear {
  /** [out, in] */
  readonly weight: Tensor;
  /** [out] */
  readonly bias: Tensor;
}

/** Loads `name.weight` and `name.bias`. */
export async function loadLinear(weights: Weights, name: string, output: number, input: number): Promise<Linear> {
  return {
    weight: await weights.matrix(`${name}.weight`, [output, input]),
    bias: await weights.vector(`${name}.bias`, [output]),
  };
}
