import { clampedBuffer } from "../clamps.ts";
import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { OperandForm } from "../kernels/gemm/operand_form.ts";
import { groupOf, indexInPanels, panelName } from "../kernels/gemm/pack.ts";
import { STORE_SCALE, toI8Rows, wordOfRow } from "../kernels/int8_rows.ts";
import { memo } from "../kernels/memo.ts";
import { countedHalves } from "../formats/halves.ts";
import { formName, lanesOf, perRow, type RowForm, rowForm, rowVectors, runPerRow } from "../kernels/row_reduction.ts";
import type { Tensor } from "../tensor.ts";
import { type Operand, PackedOperand } from "./packed_operand.ts";
import { sharedForms } from "./gemm.ts";
import type { ModulationVector } from "./modulation.ts";

const PARAMS = {
  ...u32s("dim4", "affine"),
  eps: "f32",
  scale_plus: "f32",
  ...u32s("rows_per_batch", "stride4", "scale_offset4", "shift_offset4"),
} as const;

/** With `into`, the output is in that form. Rows past the last one are not written. */
const kernel = memo(({ into, ...form }: RowForm & { readonly into: OperandForm | undefined }) => {
  const { lanes, held } = form, vectors = rowVectors(form), { numbers = "f32", panel } = into ?? {};
  const normalised = (v: string, i: string) => `normalised(${v}, ${i}, mean, scale_by, batch)`;
  const half = (i: string) =>
    `y[2u * (${indexInPanels(panel!, "row", `(${i} / 2u)`, "(p.dim4 / 2u)")}) + ${i} % 2u] = four_halves(n);`;
  const outputs = {
    f32: { y: write("vec4f") },
    f16: { y: write("vec2u"), ...clampedBuffer },
    i8: { y: write("u32"), scales: write("f32") },
  };
  const declarations = { f32: "", f16: countedHalves("inputs of matrix products"), i8: toI8Rows(lanes) };
  return perRow(lanes, {
    name: `layer_norm_${formName(form)}${into ? `_into_${numbers}${panel ? panelName(panel) : ""}` : ""}`,
    buffers: { x: read("vec4f"), scale: read("vec4f"), shift: read("vec4f"), ...outputs[numbers] },
    params: PARAMS,
    declarations: `${declarations[numbers]}
fn normalised(v: vec4f, i: u32, mean: f32, scale_by: f32, batch: u32) -> vec4f {
  let n = (v - mean) * scale_by;
  if (p.affine == 0u) { return n; }
  return n * (scale[batch + p.scale_offset4 + i] + p.scale_plus) + shift[batch + p.shift_offset4 + i];
}`,
    // The variance is computed around the mean: E[x²] − E[x]² loses digits that the bounds require.
    body: `  let at = min(row, p.rows - 1u) * p.dim4;
  let dim = f32(p.dim4 * 4u);
${vectors.load}
  var sum = vec4f();
${vectors.each((v) => `sum += ${v};`)}
  let mean = row_sum(dot(sum, vec4f(1.0)), lane) / dim;
  var squares = vec4f();
${vectors.each((v) => `let d = ${v} - mean; squares += d * d;`)}
  let scale_by = inverseSqrt(row_sum(dot(squares, vec4f(1.0)), lane) / dim + p.eps);
  let batch = (min(row, p.rows - 1u) / p.rows_per_batch) * p.stride4;
${
      numbers !== "i8"
        ? `  if (row >= p.rows) { return; }
${
          vectors.each((v, i) =>
            `let n = ${normalised(v, i)};
    ${panel ? half(i) : `y[at + ${i}] = n;`}`
          )
        }`
        : `  var most = vec4u();
${
          vectors.each((v, i) =>
            held
              ? `${v} = turned(${normalised(v, i)}); most = max(most, magnitudes(${v}));`
              : `most = max(most, magnitudes(turned(${normalised(v, i)})));`
          )
        }
  let top = row_top(most, lane);
  if (row >= p.rows) { return; }
${STORE_SCALE}
${
          vectors.each((v, i) =>
            `y[${wordOfRow(i, panel)}] = four_i8(${held ? v : `turned(${normalised(v, i)})`} * inverse);`
          )
        }`
    }`,
  });
});

/**
 * With x̂ = (x − mean)·r, r the inverse deviation, and g = dy·scale: dx = r·(g − mean(g) − x̂·mean(g·x̂)).
 */
const backwardKernel = memo((plain: boolean) => {
  const lanes = lanesOf(plain);
  return perRow(lanes, {
    name: `layer_norm_backward${plain ? "_plain" : ""}`,
    buffers: { x: read("vec4f"), dy: read("vec4f"), scale: read("vec4f"), dx: write("vec4f") },
    params: PARAMS,
    declarations: `
fn before_affine(dy: vec4f, scale_at: u32) -> vec4f {
  if (p.affine == 0u) { return dy; }
  return dy * (scale[scale_at] + p.scale_plus);
}`,
    body: `  let at = min(row, p.rows - 1u) * p.dim4;
  let dim = f32(p.dim4 * 4u);
  var sum = vec4f();
  for (var i = lane; i < p.dim4; i += ${lanes}u) { sum += x[at + i]; }
  let mean = row_sum(dot(sum, vec4f(1.0)), lane) / dim;
  let scale_at = (min(row, p.rows - 1u) / p.rows_per_batch) * p.stride4 + p.scale_offset4;
  var squares = vec4f();
  var sum_g = vec4f();
  var sum_gd = vec4f();
  for (var i = lane; i < p.dim4; i += ${lanes}u) {
    let d = x[at + i] - mean;
    let g = before_affine(dy[at + i], scale_at + i);
    squares += d * d;
    sum_g += g;
    sum_gd += g * d;
  }
  let r = inverseSqrt(row_sum(dot(squares, vec4f(1.0)), lane) / dim + p.eps);
  let mean_g = row_sum(dot(sum_g, vec4f(1.0)), lane) / dim;
  let along = row_sum(dot(sum_gd, vec4f(1.0)), lane) / dim * r * r;
  if (row >= p.rows) { return; }
  for (var i = lane; i < p.dim4; i += ${lanes}u) {
    let g = before_affine(dy[at + i], scale_at + i);
    dx[at + i] = r * (g - mean_g - along * (x[at + i] - mean));
  }`,
  });
});

/** The operation after the normalization. */
export type LayerNormAffine =
  /** y = norm(x)·weight + bias, both [dim]. */
  | { readonly weight: Tensor; readonly bias: Tensor }
  /** y = norm(x)·(1 + scale) + shift, with one vector for each batch item. */
  | { readonly scale: ModulationVector; readonly shift: ModulationVector };

/**
 * Normalizes each row to mean 0 and variance 1.
 *
 * @param x [batch, tokens, dim], f32; dim a multiple of 4
 */
export function layerNorm(gpu: Gpu, x: Tensor, eps: number, affine?: LayerNormAffine): Tensor {
  const y = gpu.tensor(x.shape);
  const { scale, shift, params } = record(gpu, x, eps, affine, y);
  // Scale and shift count as constants. They are named here so that a tape that watches them reports an error.
  gpu.tape?.record(y, [x, scale, shift], (dy) => {
    const dx = gpu.tensor(x.shape);
    runPerRow(gpu, backwardKernel(gpu.kernels.plain), { x, dy, scale, dx }, params);
    return [dx];
  });
  return y;
}

/**
 * As {@link layerNorm}, for an output that is used only as the input of products with weights like `next`. The result
 * has the form that these read fastest: packed, or a plain tensor.
 */
export function layerNormInto(
  gpu: Gpu,
  x: Tensor,
  eps: number,
  affine: LayerNormAffine | undefined,
  next: Operand,
): Operand {
  const dim = x.dim(-1), form = sharedForms(gpu, x.size / dim, next).x;
  // What panels of f16 have past a row's end must be zeros, which are not written here.
  const hasEnd = form?.numbers === "f16" && form.panel && dim % (groupOf("f16") * form.panel.depth) !== 0;
  if (!form || hasEnd) return layerNorm(gpu, x, eps, affine);
  const y = PackedOperand.empty(gpu, x.shape, form);
  record(gpu, x, eps, affine, y);
  return y;
}

/** Records the norm. Returns what its backward pass needs. */
function record(gpu: Gpu, x: Tensor, eps: number, affine: LayerNormAffine | undefined, y: Operand) {
  const dim = x.dim(-1), rows = x.size / dim;
  let [scale, shift] = [gpu.placeholder, gpu.placeholder];
  let vectors = { scale_plus: 0, rows_per_batch: rows, stride4: 0, scale_offset4: 0, shift_offset4: 0 };
  if (affine && "weight" in affine) {
    [scale, shift] = [affine.weight, affine.bias];
  } else if (affine) {
    const { tensor, index } = affine.scale, batch = tensor.dim(0);
    [scale, shift] = [tensor, affine.shift.tensor];
    vectors = {
      ...{ scale_plus: 1, rows_per_batch: rows / batch, stride4: tensor.size / batch / 4 },
      ...{ scale_offset4: index * dim / 4, shift_offset4: affine.shift.index * dim / 4 },
    };
  }
  const params = { ...vectors, rows, dim4: dim / 4, eps, affine: affine ? 1 : 0 };
  const form = rowForm(gpu.kernels.plain, dim / 4), packed = y instanceof PackedOperand ? y : undefined;
  const source = kernel({ ...form, into: packed?.form });
  const outputs = { y: packed?.tensor ?? y as Tensor, ...packed?.scale && { scales: packed.scale } };
  runPerRow(gpu, source, { x, scale, shift, ...outputs }, params, form.lanes);
  return { scale, shift, params };
}
