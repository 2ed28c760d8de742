import type { Gpu } from "../gpu.ts";
import type { Tensor } from "../tensor.ts";

/** Kernels that compute the same result in different ways. `V` tells the function that makes a kernel which one. */
export interface KernelFamily<V> {
  /** The name under which the fastest variant is remembered. It must not change from one version to the next. */
  readonly name: string;
  /**
   * The variants that a device can run at its precision, by names that must not change. The first is used where there
   * was no trial, so it must work everywhere.
   */
  variants(gpu: Gpu): ReadonlyMap<string, V>;
  /**
   * Makes operands of the sizes of real models, which belong to the enclosing scope.
   *
   * @returns a function that records the work once with one variant, and frees the tensors that it makes
   */
  trial(gpu: Gpu): (variant: V) => void;
  /**
   * Computes a small problem, always the same, whose sizes are no multiples of a tile's. A variant whose result differs
   * from that of the plain kernels is not used.
   *
   * @param variant default: the one that the device would use
   * @returns f32; it and the operands belong to the enclosing scope
   */
  sample(gpu: Gpu, variant?: V): Tensor;
}
