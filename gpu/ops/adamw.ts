import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const BETA1 = 0.9;
const EPSILON = 1e-8;

const ADAMW = perElement({
  name: "adamw",
  buffers: { gradient: read("f32"), y: write("f32"), mean: write("f32"), square: write("f32"), squares: read("f32") },
  params: { decay: "f32", rate: "f32", correction: "f32", beta2: "f32", rest: "f32", clip: "f32" },
  // The small constant is PyTorch's.
  body: `  var g = gradient[i];
  if (p.clip > 0.0) { g *= min(1.0, p.clip / (sqrt(squares[0]) + 1e-6)); }
  let m = ${BETA1} * mean[i] + ${1 - BETA1} * g;
  let s = p.beta2 * square[i] + p.rest * g * g;
  mean[i] = m;
  square[i] = s;
  y[i] = p.decay * y[i] - p.rate * m / (sqrt(s) / p.correction + ${EPSILON});`,
});

/**
 * Takes one step of AdamW (Loshchilov and Hutter 2019) with PyTorch's defaults: changes `x`, `mean` and `square`.
 *
 * @param tensors a parameter, its gradient, and the running means of gradients and of their squares, which are zeros
 * before the first step: f32 tensors of one size
 * @param step counts from 1
 * @param options the learning rate; the weight decay: the part of each parameter, times the learning rate, that a step
 * subtracts; β₂; and `clip`: the largest norm of the gradient that it may be a part of, and the sum of the squares of that, [1], f32
 */
export function adamwInPlace(
  gpu: Gpu,
  { x, gradient, mean, square }: Readonly<Record<"x" | "gradient" | "mean" | "square", Tensor>>,
  step: number,
  { lr, weightDecay, beta2 = 0.999, clip }: {
    readonly lr: number;
    readonly weightDecay: number;
    readonly beta2?: number;
    readonly clip?: { readonly most: number; readonly squares: Tensor } | undefined;
  },
): void {
  if ([gradient, mean, square].some(({ size }) => size !== x.size)) {
    throw new Error(`adamw: a gradient of [${x.shape}]`);
  }
  const buffers = { gradient, y: x, mean, square, squares: clip?.squares ?? gpu.placeholder };
  runPerElement(gpu, ADAMW, buffers, {
    decay: 1 - lr * weightDecay,
    rate: lr / (1 - BETA1 ** step),
    correction: Math.sqrt(1 - beta2 ** step),
    beta2,
    rest: 1 - beta2,
    clip: clip?.most ?? 0,
  });
}

const AVERAGE = perElement({
  name: "moving_average",
  buffers: { x: read("f32"), y: write("f32") },
  params: { keep: "f32", rest: "f32" },
  body: "  y[i] = p.keep * y[i] + p.rest * x[i];",
});

/** average ← keep · average + (1 − keep) · x, of two f32 tensors of one size. */
export function moveAverage(gpu: Gpu, average: Tensor, x: Tensor, keep: number): void {
  if (average.size !== x.size) throw new Error(`moveAverage: [${average.shape}] and [${x.shape}]`);
  runPerElement(gpu, AVERAGE, { x, y: average }, { keep, rest: 1 - keep });
}
