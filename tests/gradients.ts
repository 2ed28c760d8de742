/**
 * What tests of gradients share: the backward pass on the GPU, and central differences in float64 on the CPU.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import type { Operands } from "../gpu/precision.ts";
import { Tape } from "../gpu/tape.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Variant } from "./gpu.ts";

/** Largest relative error of a gradient. */
export function gradientBound({ bound }: Variant): number {
  return Math.max(bound, 1e-5);
}

/** Gradients of Σ dy·y by `inputs`, where `forward` makes y; read back. `products` is as for `Tape`. */
export async function gradientsOnGpu(
  gpu: Gpu,
  inputs: readonly Tensor[],
  dy: Float32Array,
  forward: () => Tensor,
  products?: Operands,
): Promise<Float32Array[]> {
  const gradients = gpu.scope(() => {
    const tape = new Tape(inputs, products);
    const y = gpu.taping(tape, forward);
    return tape.gradients(gpu, y, gpu.upload(dy, y.shape), inputs).map((gradient, i) => {
      if (!gradient) throw new Error(`no gradient for [${inputs[i]!.shape}]`);
      if (gradient.shape.join() !== inputs[i]!.shape.join()) throw new Error(`gradient of [${gradient.shape}]`);
      return gradient;
    });
  });
  const found: Float32Array[] = [];
  for (const gradient of gradients) found.push(await gpu.read(gradient));
  return found;
}

/**
 * Gradient of Σ dy·y by x, where each row of y depends on its own row of x alone: by central differences of fourth
 * order, exact to 1e-10 or so for numbers about one.
 *
 * @param dim length of a row of x
 * @param forward row `r` of y from row `r` of x
 */
export function differences(
  x: Float32Array,
  dim: number,
  dy: Float32Array,
  forward: (row: Float64Array, r: number) => Float64Array,
): Float64Array {
  const step = 1e-3, gradient = new Float64Array(x.length), rows = x.length / dim;
  for (let r = 0; r < rows; r++) {
    const row = Float64Array.from(x.subarray(r * dim, (r + 1) * dim));
    const outer = dy.subarray(r * dy.length / rows, (r + 1) * dy.length / rows);
    for (let d = 0; d < dim; d++) {
      const at = row[d]!;
      const loss = (by: number) => {
        row[d] = at + by * step;
        return forward(row, r).reduce((sum, v, i) => sum + v * outer[i]!, 0);
      };
      gradient[r * dim + d] = (8 * (loss(1) - loss(-1)) - (loss(2) - loss(-2))) / (12 * step);
      row[d] = at;
    }
  }
  return gradient;
}

/** The names of the kernels that `work` launches, but for those that poison new tensors. */
export function kernelsOf(gpu: Gpu, work: () => void): string[] {
  const names: string[] = [], run = gpu.run;
  gpu.run = (kernel, dispatch) => {
    if (kernel.name !== "fill") names.push(kernel.name);
    run.call(gpu, kernel, dispatch);
  };
  try {
    work();
  } finally {
    gpu.run = run;
  }
  return names;
}

/** gelu in its tanh form. */
export const gelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
export const silu = (x: number) => x / (1 + Math.exp(-x));

/** w·x + b of one row, with w [n, k]. */
export function linearRow(x: Float64Array, w: ArrayLike<number>, b: ArrayLike<number>): Float64Array {
  const y = new Float64Array(b.length);
  for (let j = 0; j < y.length; j++) {
    let sum = b[j]!;
    for (let l = 0; l < x.length; l++) sum += x[l]! * w[j * x.length + l]!;
    y[j] = sum;
  }
  return y;
}

/** (x − mean) / deviation of one row. */
export function layerNormRow(x: Float64Array, eps: number): Float64Array {
  const mean = x.reduce((a, c) => a + c, 0) / x.length;
  const variance = x.reduce((a, c) => a + (c - mean) ** 2, 0) / x.length;
  return x.map((v) => (v - mean) / Math.sqrt(variance + eps));
}
