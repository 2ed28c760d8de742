/**
 * Winograd's way to compute a convolution with a 3×3 kernel of stride 1: for each square of 2×2 outputs, the 4×4 inputs
 * that they see are transformed to 16 numbers, each of which is multiplied by one transformed weight. That is 16 products
 * where the direct way needs 36. The sums of each of the 16 positions are a matrix product of its own.
 *
 *     y = Aᵀ · (G·g·Gᵀ ∘ Bᵀ·d·B) · A
 *
 * A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015: F(2×2, 3×3).
 *
 * @module
 */
import { type KernelSource, read, u32s, unroll, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { perElement } from "../per_element.ts";
import { type Conv3dShape, shapeName } from "./shape.ts";

/** Edge of a square of outputs, and of the inputs that it sees. */
export const SQUARE = 2;
const EDGE = 4;
/** The numbers of a square in Winograd's domain. */
export const POSITIONS = EDGE ** 2;

/** WGSL: Bᵀ·d of four expressions. */
const forward = (d: readonly string[]) => [
  `${d[0]} - ${d[2]}`,
  `${d[1]} + ${d[2]}`,
  `${d[2]} - ${d[1]}`,
  `${d[1]} - ${d[3]}`,
];
/** WGSL: G·g of three expressions. */
const weigh = (g: readonly string[]) => [
  g[0]!,
  `0.5 * (${g[0]} + ${g[1]} + ${g[2]})`,
  `0.5 * (${g[0]} - ${g[1]} + ${g[2]})`,
  g[2]!,
];
/** WGSL: Aᵀ·m of four expressions. */
const back = (m: readonly string[]) => [`${m[0]} + ${m[1]} + ${m[2]}`, `${m[1]} - ${m[2]} - ${m[3]}`];

/** WGSL: applies a transform to the columns and then to the rows of `names`, and declares its results `${out}_i_j`. */
function both(
  step: (values: readonly string[]) => readonly string[],
  edge: number,
  name: (row: number, column: number) => string,
  out: string,
): string {
  const columns = Array.from({ length: edge }, (_, j) => step(Array.from({ length: edge }, (_, i) => name(i, j))));
  const height = columns[0]!.length;
  return unroll(height, (i) =>
    `${unroll(edge, (j) => `  let ${out}${i}${j} = ${columns[j]![i]};`)}
${
      step(Array.from({ length: edge }, (_, j) => `${out}${i}${j}`)).map((value, j) =>
        `  let ${out}_${i}_${j} = ${value};`
      )
        .join("\n")
    }`);
}

/**
 * Transforms weights [out, kernel frames, 3, 3, in], f32, to [positions, out, kernel frames, in], f16. A thread makes all
 * positions of four numbers.
 */
export const WINOGRAD_WEIGHTS = perElement({
  name: "conv3d_winograd_weights",
  buffers: { x: read("vec4f"), y: write("vec4h") },
  params: u32s("c4"),
  f16: true,
  body: `  let at = i / p.c4 * 9u * p.c4 + i % p.c4;
${both(weigh, 3, (r, c) => `x[at + ${3 * r + c}u * p.c4]`, "g")}
${unroll(POSITIONS, (k) => `  y[${k}u * p.count + i] = vec4h(g_${k >> 2}_${k & 3});`)}`,
});

/**
 * Transforms frames [ring, height, width, in], f16, from `first_frame` of the ring on, to [positions, frames, squares, in],
 * for `rows` rows of squares from `first` on. A thread makes all positions of four numbers.
 */
export const winogradInput = memo(({ up, replicate }: Pick<Conv3dShape, "up" | "replicate">): KernelSource => {
  const place = (at: string, length: string) =>
    replicate ? `clamp((${at}) >> ${up - 1}u, 0, i32(${length}) - 1)` : `(${at}) >> ${up - 1}u`;
  return perElement({
    name: `conv3d_winograd_input_${shapeName({ stride: 1, up, replicate })}`,
    buffers: { x: read("vec4h"), y: write("vec4h") },
    params: u32s("height_in", "width_in", "c4", "first", "rows", "columns", "ring", "first_frame"),
    f16: true,
    declarations: `
fn load(at: u32, inside: bool) -> vec4f { return select(vec4f(), vec4f(x[select(0u, at, inside)]), inside); }`,
    body: `  let c = i % p.c4;
  let square = i / p.c4;
  let left = i32(square % p.columns * ${SQUARE}u) - 1;
  let top = i32((square / p.columns % p.rows + p.first) * ${SQUARE}u) - 1;
  let frame = (square / (p.columns * p.rows) + p.first_frame) % p.ring;
${
      unroll(EDGE, (i) =>
        `  let u${i} = ${place(`left + ${i}`, "p.width_in")};
  let v${i} = ${place(`top + ${i}`, "p.height_in")};
  let start${i} = (frame * p.height_in + u32(v${i})) * p.width_in;`)
    }
${
      unroll(EDGE, (r) =>
        unroll(EDGE, (c) =>
          `  let d${r}${c}_in = load((start${r} + u32(u${c})) * p.c4 + c, u32(v${r}) < p.height_in && u32(u${c}) < p.width_in);`))
    }
${both(forward, EDGE, (r, c) => `d${r}${c}_in`, "d")}
${unroll(POSITIONS, (k) => `  y[${k}u * p.count + i] = vec4h(d_${k >> 2}_${k & 3});`)}`,
  });
});

/**
 * Transforms sums [positions, frames, squares, out], f16, to outputs [frames, height, width, out], f32, of the same rows
 * of squares, and adds bias and residual. A thread makes four outputs of four numbers.
 */
export const WINOGRAD_OUTPUT = perElement({
  name: "conv3d_winograd_output",
  buffers: { x: read("vec4h"), bias: read("vec4f"), residual: read("vec4f"), y: write("vec4f") },
  params: u32s("height", "width", "n4", "first", "rows", "columns", "has_residual"),
  f16: true,
  declarations: `
fn put(row: u32, column: u32, frame: u32, n: u32, value: vec4f) {
  if (row >= p.height || column >= p.width) { return; }
  let at = ((frame * p.height + row) * p.width + column) * p.n4 + n;
  var v = value + bias[n];
  if (p.has_residual != 0u) { v += residual[at]; }
  y[at] = v;
}`,
  body: `  let n = i % p.n4;
  let square = i / p.n4;
  let column = square % p.columns * ${SQUARE}u;
  let row = (square / p.columns % p.rows + p.first) * ${SQUARE}u;
  let frame = square / (p.columns * p.rows);
${unroll(POSITIONS, (k) => `  let m${k} = vec4f(x[${k}u * p.count + i]);`)}
${both(back, EDGE, (r, c) => `m${4 * r + c}`, "s")}
${unroll(4, (k) => `  put(row + ${k >> 1}u, column + ${k & 1}u, frame, n, s_${k >> 1}_${k & 1});`)}`,
});
