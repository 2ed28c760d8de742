/**
 * Kernels that compute the same in different ways, and how to find out which of them an adapter runs fastest.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import type { Tensor } from "../tensor.ts";

/** Kernels that compute the same. `V` tells one variant from another: it is what the function that makes a kernel takes. */
export interface KernelFamily<V> {
  /** Under which its winner is remembered; the same from one version to the next. */
  readonly name: string;
  /**
   * The variants that a device can run at its precision, by names that stay the same. The first is used where no trial
   * was made: it must be right and reasonable everywhere.
   */
  variants(gpu: Gpu): ReadonlyMap<string, V>;
  /**
   * Makes operands of a size that real models have. What it gives records the work once with one variant, and frees
   * what it made. The operands belong to the scope around.
   */
  trial(gpu: Gpu): (variant: V) => void;
  /**
   * Something small, always the same, of sizes that no tile goes into: with one variant or, without, as the device does
   * it by itself. What a variant gives must agree with what the plain kernels do, or it is not used.
   *
   * @returns f32; it and the operands belong to the scope around
   */
  sample(gpu: Gpu, variant?: V): Tensor;
}
