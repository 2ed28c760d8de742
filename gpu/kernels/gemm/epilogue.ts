/**
 * Matrix product of a linear layer, with what follows it fused in:
 *
 *     y[m, n] = residual[m, n] + gate[m / rows_per_batch, n] · act(Σ_k x[m, k] · w[n, k] + bias[n])
 *
 * Its kernels differ in how they make the sum: `plain.ts` for software adapters, `tiled.ts` and `matrix.ts` for GPUs.
 * Here is what they share. Of each but the last there is a form for the way back, `transposed`, that takes w[k, n].
 *
 * @module
 */
import { read, write } from "../../kernel.ts";
import { countedHalves } from "../packed.ts";
import { type Cut, placeInBlocks } from "./pack.ts";

/** Activations a linear layer can end in; the numbers are what the kernel's `activation` parameter takes. */
export const ACTIVATIONS = { none: 0, gelu_tanh: 1, silu: 2 } as const;
export type Activation = keyof typeof ACTIVATIONS;

/** The buffers; what belongs to the outputs is taken one number at a time, or four. `y` may be in blocks. */
export const gemmBuffers = (x: string, w: string, output: "f32" | "vec4f", y: "vec2u" | typeof output = output) => ({
  x: read(x),
  w: read(w),
  bias: read(output),
  residual: read(output),
  gate: read(output),
  y: write(y),
});

export const GEMM_PARAMS = {
  m: "u32",
  /** columns that are made: rows of w */
  n: "u32",
  /** the first of them, and how many y has: others than 0 and n where w is taken in parts; multiples of 4 */
  first: "u32",
  columns: "u32",
  /** k / 4 */
  k4: "u32",
  activation: "u32",
  has_bias: "u32",
  has_residual: "u32",
  has_gate: "u32",
  rows_per_batch: "u32",
  gate_offset: "u32",
  gate_stride: "u32",
} as const;

/** What happens to a finished sum. tanh is written with a clamp: some drivers overflow to NaN past ±10. */
export const ACTIVATE = `
fn gelu_tanh(x: f32) -> f32 {
  return 0.5 * x * (1.0 + tanh(clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -10.0, 10.0)));
}
fn silu(x: f32) -> f32 { return x / (1.0 + exp(-x)); }
fn activate(x: f32, kind: u32) -> f32 {
  if (kind == ${ACTIVATIONS.gelu_tanh}u) { return gelu_tanh(x); }
  if (kind == ${ACTIVATIONS.silu}u) { return silu(x); }
  return x;
}`;

/**
 * WGSL: `store(m, n, sum)` finishes a sum and writes it, where there is such an output. With "vec4f" it takes four sums
 * from column n on.
 */
export function epilogue(output: "f32" | "vec4f"): string {
  const { columns, finished } = finishing(output);
  return `${ACTIVATE}
fn store(m: u32, column: u32, sum: ${output}) {
  if (m >= p.m || column >= p.n) { return; }
${finished}
  y[m * ${columns} + n] = v;
}`;
}

/**
 * As "vec4f" of {@link epilogue}, but the outputs are written in f16 and cut, as the x of a product that follows; n is
 * a multiple of 8, and where w is taken in parts these begin with a block. Rows past the last one are left as they are:
 * they reach no row that counts.
 */
export function epilogueInBlocks(cut: Cut): string {
  const { finished } = finishing("vec4f"), wide = 8 * cut.depth;
  return `${ACTIVATE}${countedHalves("inputs of matrix products")}
fn store(m: u32, column: u32, sum: vec4f) {
  if (m >= p.m || column >= (p.n + ${wide - 1}u) / ${wide}u * ${wide}u) { return; }
  var halves = vec2u();
  if (column < p.n) {
${finished}
    halves = four_halves(v);
  }
  let at = p.first + column;
  y[2u * (${placeInBlocks(cut, "m", "(at / 8u)", "(p.columns / 8u)")}) + at / 4u % 2u] = halves;
}`;
}

/** WGSL that makes `v` of `sum`, at row `m` and the `column` that w's rows have it at, and `n`, where y has it. */
function finishing(output: "f32" | "vec4f"): { readonly columns: string; readonly finished: string } {
  const four = output === "vec4f";
  const [columns, offset, stride, n] = ["p.columns", "p.gate_offset", "p.gate_stride", "(p.first + column)"]
    .map((v) => four ? `(${v} / 4u)` : v) as [string, string, string, string];
  const activated = four
    ? `vec4f(${[..."xyzw"].map((c) => `activate(v.${c}, p.activation)`).join(", ")})`
    : "activate(v, p.activation)";
  return {
    columns,
    finished: `  let n = ${n};
  var v = sum;
  if (p.has_bias != 0u) { v += bias[n]; }
  if (p.activation != 0u) { v = ${activated}; }
  if (p.has_gate != 0u) { v *= gate[(m / p.rows_per_batch) * ${stride} + ${offset} + n]; }
  if (p.has_residual != 0u) { v += residual[m * ${columns} + n]; }`,
  };
}
