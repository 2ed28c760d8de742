/**
 * Linear layer.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type Activation, ACTIVATIONS } from "../kernels/gemm/epilogue.ts";
import { gemmLaunch, gemmVariantFor, gemmVariants } from "../kernels/gemm/variants.ts";
import type { WeightDtype } from "../kernels/packed.ts";
import type { ProductVariant } from "../kernels/product/variants.ts";
import type { Tensor } from "../tensor.ts";
import type { KernelFamily } from "../tuning/family.ts";
import { noise } from "../tuning/noise.ts";
import { activation as activate } from "./activation.ts";
import { combine } from "./combine.ts";
import { gated } from "./gated.ts";
import type { Chunk } from "./modulation.ts";
import { withBlocks } from "./pack_blocks.ts";

/** What is fused behind the product. */
export interface LinearOptions {
  /** [out], f32 */
  readonly bias?: Tensor | undefined;
  readonly activation?: Activation;
  /** [rows, out], f32: added last. */
  readonly residual?: Tensor;
  /** Multiplies the result before the residual is added; one vector of `out` a batch item. */
  readonly gate?: Chunk;
  /** "f32" keeps the operands in f32 whatever the device is set to: for those that f16, which ends at 65504, cannot hold. */
  readonly precision?: "f32";
  /** Written instead of a new tensor; [rows, out], f32. Not while a tape is open. */
  readonly into?: Tensor;
  /**
   * y = … x·w …, with w [in, out] and `out` a multiple of 4: the way back through a layer. Operands are f32 whatever the
   * device is set to, for gradients may be smaller than f16 can tell from 0.
   */
  readonly transposed?: boolean;
  /** The product is made so, whatever its size and the device's best way: for trials and tests. */
  readonly variant?: ProductVariant;
}

/** The ways to make large products; the trial is of Wan 1.3B's width. */
export const GEMM: KernelFamily<ProductVariant> = {
  name: "gemm",
  variants: gemmVariants,
  trial(gpu) {
    const x = noise(gpu, [8192, 2048]), w = noise(gpu, [1536, 2048], "bf16");
    return (variant) => gpu.scope(() => void linear(gpu, x, w, { variant }));
  },
  sample: (gpu, variant) =>
    linear(gpu, noise(gpu, [331, 264]), noise(gpu, [140, 264], "bf16"), { ...variant && { variant } }),
};

/**
 * y = residual + gate · act(x·wᵀ + bias)
 *
 * @param x [..., in], f32; `in` a multiple of 4
 * @param w [out, in], f32, bf16 or f16, as in PyTorch
 * @returns [..., out], f32
 */
export function linear(gpu: Gpu, x: Tensor, w: Tensor, options: LinearOptions = {}): Tensor {
  if (gpu.tape && (options.activation ?? "none") !== "none") return linearThenActivation(gpu, x, w, options);
  const { bias, activation = "none", residual, gate, transposed = false } = options;
  const k = x.dim(-1), m = x.size / k, n = transposed ? w.size / k : w.dim(0);
  if (w.size !== n * k || w.dim(0) !== (transposed ? k : n) || k % 4 !== 0 || transposed && n % 4 !== 0) {
    throw new Error(`linear: x [${x.shape}] does not fit w [${w.shape}]${transposed ? ", transposed" : ""}`);
  }
  if (gpu.tape && options.into) throw new Error("linear: a part of a tensor cannot be written while a tape is open");
  const y = options.into ?? gpu.tensor([...x.shape.slice(0, -1), n], "f32");
  const params = {
    m,
    n,
    k4: k / 4,
    activation: ACTIVATIONS[activation],
    has_bias: bias ? 1 : 0,
    has_residual: residual ? 1 : 0,
    has_gate: gate ? 1 : 0,
    rows_per_batch: gate ? m / gate.tensor.dim(0) : 1,
    gate_offset: gate ? gate.index * n : 0,
    gate_stride: gate ? gate.tensor.size / gate.tensor.dim(0) : 0,
  };
  const none = gpu.placeholder;
  const dtype = w.dtype as WeightDtype;
  const problem = { m, n, k, dtype, transposed, f16: gpu.f16 && options.precision !== "f32" && !transposed };
  const variant = options.variant ?? gemmVariantFor(gpu, problem, () => gpu.pick(GEMM));
  const { kernel, workgroups } = gemmLaunch(gpu, problem, variant);
  const beside = { bias: bias ?? none, residual: residual ?? none, gate: gate?.tensor ?? none, y };
  withBlocks(
    gpu,
    variant,
    [x, w],
    (x, w) => gpu.run(kernel, { buffers: { x, w, ...beside }, params, workgroups }),
  );
  // Weight and gate are taken as constants: named here, so that a tape that watches them says so.
  gpu.tape?.record(y, [x, residual, w, gate?.tensor], (dy, wanted) => [
    wanted[0] ? linear(gpu, gate ? gated(gpu, dy, gate) : dy, w, { transposed: !transposed }) : undefined,
    wanted[1] ? dy : undefined,
  ]);
  return y;
}

/** The same under a tape: the way back through the activation needs what it was given. */
function linearThenActivation(gpu: Gpu, x: Tensor, w: Tensor, options: LinearOptions): Tensor {
  const { activation, residual, gate, ...product } = options;
  const y = activate(gpu, linear(gpu, x, w, product), activation!);
  if (gate) return gated(gpu, y, gate, residual);
  return residual ? combine(gpu, [[1, y], [1, residual]]) : y;
}
