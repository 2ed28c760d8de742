/**
 * The matrix product of a linear layer, with the operations that follow it:
 *
 *     y[m, n] = residual[m, n] + gate[m / rows_per_batch, n] · act(scale[n] · Σ_k x[m, k] · w[n, k] + bias[n])
 *
 * The kernels differ in how they compute the sum: `plain.ts` is for software adapters, `tiled.ts` and `matrix.ts` are
 * for GPUs. This file has what they share. All but the last also have a form for the backward pass, `transposed`, that
 * takes w[k, n], and no scale.
 *
 * @module
 */
import { read, u32s, write } from "../../kernel.ts";
import { clampedBuffer } from "../../clamps.ts";
import { countedHalves } from "../../formats/halves.ts";
import { indexInPanels, panelName, type PanelShape } from "./pack.ts";

/**
 * The activations that a linear layer can end with. The numbers are the values of the kernel's `activation` parameter.
 */
export const ACTIVATIONS = { none: 0, gelu_tanh: 1, silu: 2, quick_gelu: 3, gelu: 4 } as const;
export type Activation = keyof typeof ACTIVATIONS;

/** The buffers. Those along the outputs have elements of one number or of four. `y` may be in panels. */
export const gemmBuffers = (x: string, w: string, output: "f32" | "vec4f", y: "vec2u" | typeof output = output) => ({
  x: read(x),
  w: read(w),
  scale: read(output),
  bias: read(output),
  residual: read(output),
  gate: read(output),
  y: write(y),
});

export const GEMM_PARAMS = {
  m: "u32",
  /** the number of columns to compute: rows of w */
  n: "u32",
  /**
   * the first column, and the number of y's columns. They differ from 0 and n where w is bound in parts; multiples of 4
   */
  ...u32s("first", "columns"),
  /** k / 4 */
  k4: "u32",
  ...u32s(
    "activation",
    "has_scale",
    "has_bias",
    "has_residual",
    "has_gate",
    "rows_per_batch",
    "gate_offset",
    "gate_stride",
  ),
} as const;

/** Of a number from 0 on, to seven digits: the approximation by Chebyshev polynomials of Numerical Recipes. */
export const ERFC = `
fn erfc(x: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.5 * x);
  let high = -0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))));
  return t * exp(-x * x - 1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * high))));
}`;

/** The function that is applied to a finished sum. tanh's argument is clamped: some drivers return NaN past ±10. */
export const ACTIVATE = `${ERFC}
fn gelu(x: f32) -> f32 {
  let tail = erfc(abs(x) * 0.7071067811865476);
  return 0.5 * x * select(tail, 2.0 - tail, x > 0.0);
}
fn gelu_tanh(x: f32) -> f32 {
  return 0.5 * x * (1.0 + tanh(clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -10.0, 10.0)));
}
fn silu(x: f32) -> f32 { return x / (1.0 + exp(-x)); }
fn activate(x: f32, kind: u32) -> f32 {
  if (kind == ${ACTIVATIONS.gelu_tanh}u) { return gelu_tanh(x); }
  if (kind == ${ACTIVATIONS.silu}u) { return silu(x); }
  if (kind == ${ACTIVATIONS.quick_gelu}u) { return x / (1.0 + exp(-1.702 * x)); }
  if (kind == ${ACTIVATIONS.gelu}u) { return gelu(x); }
  return x;
}`;

/**
 * WGSL: `store(m, n, sum)` finishes a sum and writes it, if there is such an output. With "vec4f" it takes four sums,
 * from column n on. Where a thread has sums of many rows in the same columns, it calls `columns_at(n)` once, which reads
 * what the columns need, and then `store_in(m, columns, sum)`.
 */
export function epilogue(output: "f32" | "vec4f"): string {
  return `${finishing(output)}
fn store_in(m: u32, columns: Columns, sum: ${output}) {
  if (m >= p.m || columns.first >= p.n) { return; }
  y[m * ${rowOf(output)} + columns.n] = finished(m, columns, sum);
}${storeOf(output)}`;
}

/**
 * As "vec4f" of {@link epilogue}, but the outputs are written in f16 and in panels, as the x of the next product. n is
 * a multiple of 8; where w is bound in parts, each part starts with a panel. Rows past the last are not written: they
 * affect no row that counts.
 */
function panelEpilogue(panel: PanelShape): string {
  const wide = 8 * panel.depth;
  return `${finishing("vec4f")}${countedHalves("inputs of matrix products")}
fn store_in(m: u32, columns: Columns, sum: vec4f) {
  if (m >= p.m || columns.first >= (p.n + ${wide - 1}u) / ${wide}u * ${wide}u) { return; }
  var halves = vec2u();
  if (columns.first < p.n) { halves = four_halves(finished(m, columns, sum)); }
  let at = p.first + columns.first;
  y[2u * (${indexInPanels(panel, "m", "(at / 8u)", "(p.columns / 8u)")}) + at / 4u % 2u] = halves;
}${storeOf("vec4f")}`;
}

/**
 * As "vec4f" of {@link epilogue}, but the outputs are written as rows of bf16, which are quantised next: it has the range
 * of f32, so that nothing is clamped and NaN stays, and errs less than 8 bits do.
 */
function bf16Epilogue(): string {
  return `${finishing("vec4f")}
fn four_bf16(v: vec4f) -> vec2u {
  let bits = bitcast<vec4u>(v);
  let infinite = vec4u(0x7f800000u);
  let nearest = select(bits + vec4u(0x8000u), bits, (bits & infinite) == infinite);
  return (nearest.xz >> vec2u(16u)) | (nearest.yw & vec2u(0xffff0000u));
}
fn store_in(m: u32, columns: Columns, sum: vec4f) {
  if (m >= p.m || columns.first >= p.n) { return; }
  y[m * ${rowOf("vec4f")} + columns.n] = four_bf16(finished(m, columns, sum));
}${storeOf("vec4f")}`;
}

const storeOf = (output: "f32" | "vec4f") => `
fn store(m: u32, column: u32, sum: ${output}) { store_in(m, columns_at(column), sum); }`;

/** WGSL: the length of a row of outputs, in elements. */
const rowOf = (output: "f32" | "vec4f") => output === "vec4f" ? "(p.columns / 4u)" : "p.columns";

/** How an output is written that only another product reads: in panels of f16, or as rows of bf16. */
export type HalfOutput = PanelShape | "bf16";

/** What a kernel needs to write its output in f32, or in `into`. */
export function outputOf(into: HalfOutput | undefined) {
  if (!into) return { y: "vec4f", epilogue: epilogue("vec4f"), name: "", buffers: {} } as const;
  return into === "bf16"
    ? { y: "vec2u", epilogue: bf16Epilogue(), name: "_into_bf16", buffers: {} } as const
    : { y: "vec2u", epilogue: panelEpilogue(into), name: `_into_${panelName(into)}`, buffers: clampedBuffer } as const;
}

/**
 * For products of rows in `i8`: the buffer with the scales of x's rows, and `store_sums(m, n, sums)`, which does as
 * `store` of {@link epilogue} for sums in i32.
 */
export const scaledRows = {
  buffers: { x_scale: read("f32") },
  store: (output: "f32" | "vec4f") => `
fn store_sums(m: u32, column: u32, sums: ${output === "f32" ? "i32" : "vec4i"}) {
  store(m, column, x_scale[min(m, p.m - 1u)] * ${output}(sums));
}`,
};

/** WGSL that finishes sums: `columns_at`, and `finished(m, columns, sum)`. */
function finishing(output: "f32" | "vec4f"): string {
  const four = output === "vec4f", wide = four ? 4 : 1;
  const [offset, stride] = ["p.gate_offset", "p.gate_stride"].map((v) => four ? `(${v} / 4u)` : v);
  const activated = four
    ? `vec4f(${[..."xyzw"].map((c) => `activate(v.${c}, p.activation)`).join(", ")})`
    : "activate(v, p.activation)";
  return `${ACTIVATE}
/** What the sums of a column, or of four, need: the first, counted in rows of w; the place in a row of y; numbers. */
struct Columns { first: u32, n: u32, scale: ${output}, bias: ${output} }
fn columns_at(column: u32) -> Columns {
  let n = (p.first + min(column, p.n - ${wide}u)) / ${wide}u;
  var columns = Columns(column, n, ${output}(1.0), ${output}());
  if (p.has_scale != 0u) { columns.scale = scale[n]; }
  if (p.has_bias != 0u) { columns.bias = bias[n]; }
  return columns;
}
fn finished(m: u32, columns: Columns, sum: ${output}) -> ${output} {
  let n = columns.n;
  var v = sum * columns.scale + columns.bias;
  if (p.activation != 0u) { v = ${activated}; }
  if (p.has_gate != 0u) { v *= gate[(m / p.rows_per_batch) * ${stride} + ${offset} + n]; }
  if (p.has_residual != 0u) { v += residual[m * ${rowOf(output)} + n]; }
  return v;
}`;
}
