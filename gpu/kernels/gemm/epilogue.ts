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
import { type Binding, read, u32s, write } from "../../kernel.ts";
import { clampedBuffer } from "../../clamps.ts";
import { countedHalves } from "../../formats/halves.ts";
import { groupInPanels, panelName, type PanelShape, rowInPanels } from "./pack.ts";

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

/** The buffers that each weight of several has its own of: with a number behind their names, from the second on. */
const OF_EACH_WEIGHT = ["w", "scale", "bias", "y"] as const;

/** The name of such a buffer of the i-th weight. */
export const ofWeight = (name: typeof OF_EACH_WEIGHT[number], i: number) => i === 0 ? name : `${name}_${i}`;

/** WGSL that runs the code of one of several weights, given an expression of its index. */
export const byWeight = (weights: number, index: string, code: (i: number) => string): string =>
  Array.from({ length: weights }, (_, i) => `${i < weights - 1 ? `if (${index} == ${i}u) ` : ""}{\n${code(i)}\n}`)
    .join(" else ");

/** The buffers of several products of one input, which have neither a residual nor a gate. */
export const buffersOfWeights = (x: string, w: string, outputs: readonly RowFormat[]): Record<string, Binding> => ({
  x: read(x),
  ...Object.fromEntries(
    outputs.flatMap((output, i) => {
      const own = {
        w: read(w),
        scale: read("vec4f"),
        bias: read("vec4f"),
        y: write(output === "f16" ? "vec2u" : "vec4f"),
      };
      return OF_EACH_WEIGHT.map((name) => [ofWeight(name, i), own[name]] as const);
    }),
  ),
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
    // 1: one vector for all rows; 2: one for each batch item
    "has_gate",
    "rows_per_batch",
    "gate_offset",
    "gate_stride",
  ),
} as const;

/** WGSL: erfc of numbers from 0 on, to seven digits: the approximation by Chebyshev polynomials of Numerical Recipes. */
export const erfc = (type: "f32" | "vec4f") => `
fn erfc(x: ${type}) -> ${type} {
  let t = 1.0 / (1.0 + 0.5 * x);
  let high = -0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))));
  return t * exp(-x * x - 1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * high))));
}`;

/**
 * WGSL of each activation of `x`. GELU by tanh is x times the logistic function, because (1 + tanh(u)) / 2 is that of 2u:
 * tanh takes more instructions, and some drivers return NaN for it past ±10.
 */
const ACTIVATED: Readonly<Record<Activation, string>> = {
  none: "x",
  gelu_tanh: "with_logistic(x, 1.5957691216057308 * x * (1.0 + 0.044715 * x * x))",
  silu: "with_logistic(x, x)",
  quick_gelu: "with_logistic(x, 1.702 * x)",
  gelu: "gelu(x)",
};

/**
 * WGSL: `activate(x, kind)`, the function that is applied to finished sums, one or four.
 *
 * @param only the kind, where it is known: then the kernel has no code for others
 */
export function activate(type: "f32" | "vec4f", only?: Activation): string {
  const others = Object.entries(ACTIVATIONS).map(([kind, number]) =>
    `  if (kind == ${number}u) { return ${ACTIVATED[kind as Activation]}; }\n`
  );
  return `${erfc(type)}
fn gelu(x: ${type}) -> ${type} {
  let tail = erfc(abs(x) * 0.7071067811865476);
  return 0.5 * x * select(tail, 2.0 - tail, x > ${type}());
}
fn with_logistic(x: ${type}, u: ${type}) -> ${type} { return x / (1.0 + exp(-u)); }
fn activate(x: ${type}, kind: u32) -> ${type} {
${only ? `  return ${ACTIVATED[only]};` : `${others.join("")}  return x;`}
}`;
}

/**
 * WGSL: `store(m, n, sum)` finishes a sum and writes it, if there is such an output. With "vec4f" it takes four sums,
 * from column n on. Where a thread has sums of many rows in the same columns, it calls `columns_at(n)` once, which reads
 * what the columns need, and then `store_in(m, columns, sum)`. That is `put(m, columns, finished(m, columns, sum,
 * residual_at(m, columns)))`: a thread that calls each for several rows waits for memory once.
 *
 * @param activation the activation, where it is known
 */
export function epilogue(output: "f32" | "vec4f", activation?: Activation): string {
  const wide = output === "vec4f" ? 4 : 1;
  return `${finishing(output, `n / ${wide}u`, activation)}
fn put(m: u32, columns: Columns, v: ${output}) {
  if (m < p.m && columns.first < p.n) { y[m * ${rowOf(output)} + columns.place] = v; }
}${storeOf(output)}`;
}

/**
 * As "vec4f" of {@link epilogue}, but the outputs are written in f16 and in panels, as the x of the next product. n is
 * a multiple of 8; where w is bound in parts, each part starts with a panel. Rows past the last are not written: they
 * affect no row that counts.
 */
function panelEpilogue(panel: PanelShape, activation: Activation): string {
  const wide = 8 * panel.depth, groups = "(p.columns / 8u)";
  const place = `2u * ${groupInPanels(panel, "((p.first + column) / 8u)")} + column / 4u % 2u`;
  return `${finishing("vec4f", place, activation)}
${countedHalves("inputs of matrix products")}
fn put(m: u32, columns: Columns, v: vec4f) {
  if (m >= p.m || columns.first >= (p.n + ${wide - 1}u) / ${wide}u * ${wide}u) { return; }
  var halves = vec2u();
  if (columns.first < p.n) { halves = four_halves(v); }
  y[2u * ${rowInPanels(panel, "m", groups)} + columns.place] = halves;
}${storeOf("vec4f")}`;
}

/** How four numbers become two words, in each format of rows of 16 bits. */
const FOUR_IN_16_BITS = {
  // It has the range of f32, so that nothing is clamped and NaN stays, and errs less than the 8 bits that follow.
  bf16: `
fn four_halves(v: vec4f) -> vec2u {
  let bits = bitcast<vec4u>(v);
  let infinite = vec4u(0x7f800000u);
  let nearest = select(bits + vec4u(0x8000u), bits, (bits & infinite) == infinite);
  return (nearest.xz >> vec2u(16u)) | (nearest.yw & vec2u(0xffff0000u));
}`,
  f16: countedHalves("keys and values of attention"),
} as const;

/** As "vec4f" of {@link epilogue}, but the outputs are written as rows of 16-bit numbers. */
function halfRowsEpilogue(format: HalfRows, activation: Activation): string {
  return `${finishing("vec4f", "n / 4u", activation)}
${FOUR_IN_16_BITS[format]}
fn put(m: u32, columns: Columns, v: vec4f) {
  if (m < p.m && columns.first < p.n) { y[m * ${rowOf("vec4f")} + columns.place] = four_halves(v); }
}${storeOf("vec4f")}`;
}

/**
 * As "vec4f" of {@link epilogue}, for several weights of one input. In scope must be `weight`, the index of the one whose
 * outputs the workgroup computes.
 */
function epilogueOfWeights(outputs: readonly RowFormat[]): string {
  return `${finishing("vec4f", "n / 4u", "none", outputs.length)}
${outputs.includes("f16") ? FOUR_IN_16_BITS.f16 : ""}
fn put(m: u32, columns: Columns, v: vec4f) {
  if (m >= p.m || columns.first >= p.n) { return; }
  let at = m * ${rowOf("vec4f")} + columns.place;
${
    byWeight(outputs.length, "weight", (i) =>
      `${ofWeight("y", i)}[at] = ${outputs[i] === "f16" ? "four_halves(v)" : "v"};`)
  }
}${storeOf("vec4f")}`;
}

const storeOf = (output: "f32" | "vec4f") => `
fn store_in(m: u32, columns: Columns, sum: ${output}) {
  put(m, columns, finished(m, columns, sum, residual_at(m, columns)));
}
fn store(m: u32, column: u32, sum: ${output}) { store_in(m, columns_at(column), sum); }`;

/** WGSL: the length of a row of outputs, in elements. */
const rowOf = (output: "f32" | "vec4f") => output === "vec4f" ? "(p.columns / 4u)" : "p.columns";

/** Rows of an output in 16 bits: bf16 is quantised next, f16 are values of attention. */
export type HalfRows = keyof typeof FOUR_IN_16_BITS;

/** The format of an output's rows, where several weights have one each. */
export type RowFormat = "f32" | "f16";

/** How an output in 16 bits is written: in panels of f16 that another product reads, or in rows. */
export type HalfOutput = PanelShape | HalfRows;

/** What a kernel does with its sums, where that is part of its code. */
export interface Output {
  /** The form that it is written in. Default: f32 */
  readonly into?: HalfOutput | undefined;
  readonly activation: Activation;
  /** The outputs of several weights of one input, instead; without an activation. */
  readonly ofWeights?: readonly RowFormat[] | undefined;
}

/** What a kernel needs to write its output. */
export function outputOf({ into, activation, ofWeights }: Output) {
  if (ofWeights) {
    const buffers = ofWeights.includes("f16") ? clampedBuffer : {};
    return { y: "vec4f" as const, epilogue: epilogueOfWeights(ofWeights), name: `_${ofWeights.join("_")}`, buffers };
  }
  const name = activation === "none" ? "" : `_${activation}`, y: "vec2u" | "vec4f" = into ? "vec2u" : "vec4f";
  if (!into) return { y, epilogue: epilogue("vec4f", activation), name, buffers: {} };
  if (typeof into === "string") {
    const buffers = into === "f16" ? clampedBuffer : {};
    return { y, epilogue: halfRowsEpilogue(into, activation), name: `${name}_into_${into}`, buffers };
  }
  return {
    y,
    epilogue: panelEpilogue(into, activation),
    name: `${name}_into_${panelName(into)}`,
    buffers: clampedBuffer,
  };
}

/**
 * For products of rows in `i8`: the buffer with the scales of x's rows, and `store_sums(m, columns, sums)`, which does as
 * `store_in` of {@link epilogue} for sums in i32.
 */
export const scaledRows = {
  buffers: { x_scale: read("f32") },
  store: (output: "f32" | "vec4f") => `
fn store_sums(m: u32, columns: Columns, sums: ${output === "f32" ? "i32" : "vec4i"}) {
  store_in(m, columns, x_scale[min(m, p.m - 1u)] * ${output}(sums));
}`,
};

/**
 * WGSL that finishes sums: `columns_at`, `residual_at`, and `finished(m, columns, sum, added)`.
 *
 * @param place WGSL: where the columns lie in a row of the output, given the first, `column`, and its place `n` in all
 * parts of w
 * @param activation the activation, where it is known
 * @param weights the number of weights that share the input; with several, there is neither a residual nor a gate
 */
function finishing(output: "f32" | "vec4f", place: string, activation?: Activation, weights = 1): string {
  const numbers = (name: "scale" | "bias") => {
    const read = (i: number) => `columns.${name} = ${ofWeight(name, i)}[columns.n];`;
    return `  if (p.has_${name} != 0u) { ${weights > 1 ? byWeight(weights, "weight", read) : read(0)} }`;
  };
  const alone = (code: string) => weights > 1 ? "" : code;
  const four = output === "vec4f", wide = four ? 4 : 1;
  const [offset, stride] = ["p.gate_offset", "p.gate_stride"].map((v) => four ? `(${v} / 4u)` : v);
  const activated = activation === "none"
    ? ""
    : `  ${activation ? "" : "if (p.activation != 0u) "}{ v = activate(v, p.activation); }`;
  return `${activate(output, activation)}
/** What the sums of a column, or of four, need: the first, counted in rows of w; its place; numbers. */
struct Columns { first: u32, n: u32, place: u32, scale: ${output}, bias: ${output}, gate: ${output} }
fn columns_at(column: u32) -> Columns {
  let n = p.first + min(column, p.n - ${wide}u);
  var columns = Columns(column, n / ${wide}u, ${place}, ${output}(1.0), ${output}(), ${output}(1.0));
${numbers("scale")}
${numbers("bias")}
${alone(`  if (p.has_gate == 1u) { columns.gate = gate[${offset} + columns.n]; }`)}
  return columns;
}
fn residual_at(m: u32, columns: Columns) -> ${output} {
${alone(`  if (p.has_residual != 0u) { return residual[min(m, p.m - 1u) * ${rowOf(output)} + columns.n]; }`)}
  return ${output}();
}
fn finished(m: u32, columns: Columns, sum: ${output}, added: ${output}) -> ${output} {
  var v = sum * columns.scale + columns.bias;
${activated}
${
    alone(`  v *= columns.gate;
  if (p.has_gate == 2u) { v *= gate[(min(m, p.m - 1u) / p.rows_per_batch) * ${stride} + ${offset} + columns.n]; }`)
  }
  return v + added;
}`;
}
