import { I8_MAX, TO_I8 } from "../formats/i8.ts";
import type { MatrixFormat } from "../formats/format.ts";
import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import { indexInPanels, panelName, type PanelShape } from "../kernels/gemm/pack.ts";
import { memo } from "../kernels/memo.ts";
import { heldVectors, perRow, rowMax, rowVectors, runPerRow } from "../kernels/row_reduction.ts";
import type { Tensor } from "../tensor.ts";

interface Quantising {
  readonly plain: boolean;
  readonly held: number;
  readonly format: MatrixFormat;
  /** The panels that the output is written in. */
  readonly panel: PanelShape | undefined;
}

const kernel = memo(({ plain, held, format, panel }: Quantising) => {
  const { four } = format.read, vectors = rowVectors(plain, held, (i) => `unpack4(${four.read("x", i)})`);
  return perRow(plain, {
    name: `quantise_${plain ? "plain" : held}_${format}${panel ? `_into_${panelName(panel)}` : ""}`,
    buffers: { x: read(four.element), y: write("u32"), scales: write("f32") },
    params: { dim4: "u32" },
    declarations: `${rowMax(plain)}${TO_I8}${four.declare("x")}${four.unpack4}`,
    // A maximum of floats may lose a NaN; as bits, it is the largest.
    body: `  let at = min(row, p.rows - 1u) * p.dim4;
${vectors.load}
  var magnitudes = vec4u();
${vectors.each((v) => `magnitudes = max(magnitudes, bitcast<vec4u>(${v}) & vec4u(0x7fffffffu));`)}
  let both = max(magnitudes.xy, magnitudes.zw);
  let top = bitcast<f32>(row_max(max(both.x, both.y), lane));
  if (row >= p.rows) { return; }
  if (lane == 0u) { scales[row] = top / ${I8_MAX}.0; }
  let inverse = i8_inverse(top);
${
      vectors.each((v, i) => {
        const to = panel
          ? `4u * (${indexInPanels(panel, "row", `(${i} / 4u)`, "(p.dim4 / 4u)")}) + ${i} % 4u`
          : `at + ${i}`;
        return `y[${to}] = four_i8(${v} * inverse);`;
      })
    }`,
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
  const k = x.dim(-1), { plain } = gpu.kernels;
  if (k % (panel ? 16 : 4) !== 0) throw new Error(`rows of ${k} cannot be quantised`);
  const source = kernel({ plain, held: heldVectors(plain, k / 4), format: x.matrixFormat, panel });
  runPerRow(gpu, source, { x, y, scales }, { rows: x.size / k, dim4: k / 4 });
}
