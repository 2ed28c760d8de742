import type { MatrixFormat } from "../formats/format.ts";
import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import { panelName, type PanelShape } from "../kernels/gemm/pack.ts";
import { memo } from "../kernels/memo.ts";
import { STORE_SCALE, toI8Rows, wordOfRow } from "../kernels/int8_rows.ts";
import { formName, perRow, type RowForm, rowForm, rowVectors, runPerRow } from "../kernels/row_reduction.ts";
import type { Tensor } from "../tensor.ts";

/** The widened activations of Wan 14B, 13824 channels. */
const MOST_HELD = 28;

interface Quantising extends RowForm {
  readonly format: MatrixFormat;
  /** The panels that the output is written in. */
  readonly panel: PanelShape | undefined;
}

const kernel = memo(({ format, panel, ...form }: Quantising) => {
  const { lanes } = form,
    { four } = format.read,
    vectors = rowVectors(form, (i) => `turned(unpack4(${four.read("x", i)}))`);
  return perRow(lanes, {
    name: `quantise_${formName(form)}_${format}${panel ? `_into_${panelName(panel)}` : ""}`,
    buffers: { x: read(four.element), y: write("u32"), scales: write("f32") },
    params: { dim4: "u32" },
    declarations: `${toI8Rows(lanes)}${four.declare("x")}${four.unpack4}`,
    body: `  let at = min(row, p.rows - 1u) * p.dim4;
${vectors.load}
  var most = vec4u();
${vectors.each((v) => `most = max(most, magnitudes(${v}));`)}
  let top = row_top(most, lane);
  if (row >= p.rows) { return; }
${STORE_SCALE}
${vectors.each((v, i) => `y[${wordOfRow(i, panel)}] = four_i8(${v} * inverse);`)}`,
  });
});

/**
 * Quantises an input of products: the numbers of a row, a token, become integers from −127 to 127, times a scale of the
 * row. They are rounded to nearest, so each is off by at most half of the scale.
 *
 * @param x [..., k], any format of matrices; k a multiple of 4
 * @param y as many numbers in i8, or panels of them: is written. What panels have past a row's end is not
 * @param scales [rows], f32: is written. That of a row of zeros is 0. That of a row with a number that is not finite is
 * not finite
 */
export function quantiseInto(gpu: Gpu, x: Tensor, y: Tensor, scales: Tensor, panel?: PanelShape): void {
  const k = x.dim(-1), form = rowForm(gpu.kernels.plain, k / 4, MOST_HELD);
  if (k % (panel ? 16 : 4) !== 0) throw new Error(`rows of ${k} cannot be quantised`);
  const source = kernel({ ...form, format: x.matrixFormat, panel });
  runPerRow(gpu, source, { x, y, scales }, { rows: x.size / k, dim4: k / 4 }, form.lanes);
}
