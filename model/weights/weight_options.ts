/**
 * How the weights of a transformer or a text encoder are loaded.
 *
 * @module
 */
import type { Tensor } from "../../gpu/tensor.ts";
import type { WeightDtypeChoice } from "./weight_dtype.ts";

/** What is added to one weight. */
export interface WeightDelta {
  /**
   * Computes a part of the delta.
   *
   * @returns f32: `count` rows of the first axis, from `start` on. It belongs to the enclosing scope
   */
  rows(start: number, count: number): Tensor;
}

/** What is added to weights while they are loaded, as by LoRA. */
export interface WeightDeltas {
  /** The most bytes that it needs on the GPU: its own tensors, and a part of a delta. */
  readonly bytes: number;
  /**
   * The delta of a matrix or a vector.
   *
   * @param name the whole name, as the family has it
   * @returns undefined if the weight is loaded as it is
   */
  of(name: string): WeightDelta | undefined;
}

/** How weights are loaded. */
export interface WeightOptions {
  /** The format of matrices on the GPU. Default: "auto" */
  readonly dtype?: WeightDtypeChoice | undefined;
  /** What is added to them, in f32, before they are rounded. A matrix that cannot be rounded to its format becomes f16. */
  readonly adjust?: WeightDeltas | undefined;
}
