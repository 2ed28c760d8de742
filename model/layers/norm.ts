import type { Tensor } from "../../gpu/tensor.ts";
import type { Weights } from "../weights/weights.ts";

/** The weight and the bias of a norm, [dim] each. */
export interface Norm {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/** Loads `name.weight` and `name.bias`. */
export async function loadNorm(weights: Weights, name: string, dim: number): Promise<Norm> {
  return {
    weight: await weights.vector(`${name}.weight`, [dim]),
    bias: await weights.vector(`${name}.bias`, [dim]),
  };
}
