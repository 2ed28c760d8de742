import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import { formName, lanesOf, perRow, type RowForm, rowForm, rowVectors, runPerRow } from "../kernels/row_reduction.ts";
import { isSamePlace, type Tensor } from "../tensor.ts";

const PARAMS = {
  ...u32s("dim4", "head_dim4"),
  eps: "f32",
  /** rows of a token: its heads, if each is a row of its own */
  rows_per_token: "u32",
  /** tokens of a batch item */
  tokens: "u32",
  /** the number of tokens that are rotated: 0 without RoPE */
  rotated: "u32",
} as const;

const kernel = memo(({ inPlace, ...form }: RowForm & { readonly inPlace: boolean }) => {
  // A buffer cannot be bound both to be read and to be written, so in place there is one binding.
  const vectors = rowVectors(form, (i) => `${inPlace ? "y" : "x"}[${i}]`);
  return perRow(form.lanes, {
    name: `rms_norm_${formName(form)}${inPlace ? "_in_place" : ""}`,
    buffers: {
      ...!inPlace && { x: read("vec4f") },
      ...{ weight: read("vec4f"), rope: read("vec4f"), y: write("vec4f") },
    },
    params: PARAMS,
    body: `  let at = min(row, p.rows - 1u) * p.dim4;
${vectors.load}
  var squares = vec4f();
${vectors.each((v) => `squares += ${v} * ${v};`)}
  let scale = inverseSqrt(row_sum(dot(squares, vec4f(1.0)), lane) / f32(p.dim4 * 4u) + p.eps);
  if (row >= p.rows) { return; }
  let token = row / p.rows_per_token % p.tokens;
${
      vectors.each((v, i) =>
        `let n = ${v} * scale * weight[${i}];
    if (token >= p.rotated) { y[at + ${i}] = n; }
    else {
      let r = rope[token * p.head_dim4 + ${i} % p.head_dim4]; // cos, sin, cos, sin of two pairs
      y[at + ${i}] = vec4f(n.x * r.x - n.y * r.y, n.x * r.y + n.y * r.x, n.z * r.z - n.w * r.w, n.z * r.w + n.w * r.z);
    }`
      )
    }`,
  });
});

/**
 * With g = dy, rotated back, times weight, and r the inverse root mean square of x:
 * dx = r·(g − x·r²·mean(g·x)).
 */
const backwardKernel = memo((plain: boolean) => {
  const lanes = lanesOf(plain);
  return perRow(lanes, {
    name: `rms_norm_backward${plain ? "_plain" : ""}`,
    buffers: { x: read("vec4f"), dy: read("vec4f"), weight: read("vec4f"), rope: read("vec4f"), dx: write("vec4f") },
    params: PARAMS,
    declarations: `
fn before_rope(dy: vec4f, token: u32, i: u32) -> vec4f {
  if (token >= p.rotated) { return dy; }
  let r = rope[token * p.head_dim4 + i % p.head_dim4];
  return vec4f(
    dy.x * r.x + dy.y * r.y, dy.y * r.x - dy.x * r.y,
    dy.z * r.z + dy.w * r.w, dy.w * r.z - dy.z * r.w,
  );
}`,
    body: `  let at = min(row, p.rows - 1u) * p.dim4;
  let token = row / p.rows_per_token % p.tokens;
  var squares = vec4f();
  var sum = vec4f();
  for (var i = lane; i < p.dim4; i += ${lanes}u) {
    let v = x[at + i];
    squares += v * v;
    sum += before_rope(dy[at + i], token, i) * weight[i] * v;
  }
  let dim = f32(p.dim4 * 4u);
  let r = inverseSqrt(row_sum(dot(squares, vec4f(1.0)), lane) / dim + p.eps);
  let along = row_sum(dot(sum, vec4f(1.0)), lane) / dim * r * r;
  if (row >= p.rows) { return; }
  for (var i = lane; i < p.dim4; i += ${lanes}u) {
    let g = before_rope(dy[at + i], token, i) * weight[i];
    dx[at + i] = r * (g - along * x[at + i]);
  }`,
  });
});

/** Rotates consecutive pairs of each head by the token's angles. */
export interface Rope {
  /** [tokens, head dim / 2, 2], f32: cos and sin for each pair. Tokens that follow these are not rotated. */
  readonly table: Tensor;
}

/**
 * y = x / rms(x) · weight, then rotated. The root mean square is that of a token's channels, or of each head's.
 *
 * @param x [batch, tokens, dim], f32; dim a multiple of 4
 * @param weight [dim], or [head dim] for a norm of each head; f32; a multiple of 4
 * @param options.into the shape of x, f32: where to write the result, instead of to a new tensor; may be a part of one,
 * and x itself, but not while a tape is open
 */
export function rmsNorm(
  gpu: Gpu,
  x: Tensor,
  weight: Tensor,
  eps: number,
  { rope, into }: { readonly rope?: Rope | undefined; readonly into?: Tensor } = {},
): Tensor {
  const dim = weight.size, rows = x.size / dim;
  const y = into ?? gpu.tensor(x.shape), table = rope?.table ?? gpu.placeholder;
  const params = {
    ...{ rows, dim4: dim / 4, eps, rows_per_token: x.dim(-1) / dim, tokens: x.dim(-2) },
    ...{ head_dim4: rope ? table.dim(1) / 2 : 1, rotated: rope ? table.dim(0) : 0 },
  };
  const { plain } = gpu.kernels, form = rowForm(plain, dim / 4), inPlace = isSamePlace(x, y);
  if (inPlace && gpu.tape) throw new Error("rmsNorm: the backward pass needs x, which is written over");
  const buffers = { ...!inPlace && { x }, weight, rope: table, y };
  runPerRow(gpu, kernel({ ...form, inPlace }), buffers, params, form.lanes);
  gpu.tape?.record(y, [x], (dy) => {
    const dx = gpu.tensor(x.shape);
    runPerRow(gpu, backwardKernel(plain), { x, dy, weight, rope: table, dx }, params);
    return [dx];
  });
  return y;
}
