import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { activate, type Activation, ACTIVATIONS, erfc } from "../kernels/gemm/epilogue.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const KERNEL = perElement({
  name: "activation",
  buffers: { x: read("f32"), y: write("f32") },
  params: { kind: "u32" },
  declarations: activate("f32"),
  body: "  y[i] = activate(x[i], p.kind);",
});

/** act(x), elementwise, f32: for an activation that does not follow a matrix product. */
export function activation(gpu: Gpu, x: Tensor, kind: Activation): Tensor {
  const y = runPerElement(gpu, KERNEL, { x, y: gpu.tensor(x.shape) }, { kind: ACTIVATIONS[kind] });
  gpu.tape?.record(y, [x], (dy) => [activationSlope(gpu, x, kind, dy)]);
  return y;
}

const SLOPE_KERNEL = perElement({
  name: "activation_slope",
  buffers: { x: read("f32"), dy: read("f32"), y: write("f32") },
  params: u32s("kind", "has_dy"),
  // Where tanh is clamped, it is 1 except for rounding, which the large factor behind it would amplify.
  declarations: `${erfc("f32")}
fn gelu_slope(x: f32) -> f32 {
  let tail = 0.5 * erfc(abs(x) * 0.7071067811865476);
  return select(tail, 1.0 - tail, x > 0.0) + 0.3989422804014327 * x * exp(-0.5 * x * x);
}
fn gelu_tanh_slope(x: f32) -> f32 {
  let u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
  let t = tanh(clamp(u, -10.0, 10.0));
  let du = 0.7978845608028654 * (1.0 + 0.134145 * x * x);
  return 0.5 * (1.0 + t) + select(0.0, 0.5 * x * (1.0 - t * t) * du, abs(u) < 10.0);
}
// Of x times the logistic function of c·x: silu, and quick GELU.
fn silu_slope(x: f32, c: f32) -> f32 {
  let s = 1.0 / (1.0 + exp(-c * x));
  return s * (1.0 + c * x * (1.0 - s));
}
fn slope(x: f32, kind: u32) -> f32 {
  if (kind == ${ACTIVATIONS.gelu_tanh}u) { return gelu_tanh_slope(x); }
  if (kind == ${ACTIVATIONS.silu}u) { return silu_slope(x, 1.0); }
  if (kind == ${ACTIVATIONS.quick_gelu}u) { return silu_slope(x, 1.702); }
  if (kind == ${ACTIVATIONS.gelu}u) { return gelu_slope(x); }
  return 1.0;
}`,
  body: `  var v = slope(x[i], p.kind);
  if (p.has_dy != 0u) { v *= dy[i]; }
  y[i] = v;`,
});

/** act′(x), times the gradient `dy` of act(x) where it is given; elementwise, f32. */
export function activationSlope(gpu: Gpu, x: Tensor, kind: Activation, dy?: Tensor): Tensor {
  const y = gpu.tensor(x.shape);
  return runPerElement(gpu, SLOPE_KERNEL, { x, dy: dy ?? gpu.placeholder, y }, {
    kind: ACTIVATIONS[kind],
    has_dy: dy ? 1 : 0,
  });
}
