import { clampedBuffer } from "../clamps.ts";
import { f32 } from "../formats/f32.ts";
import type { MatrixFormat } from "../formats/format.ts";
import { i8 } from "../formats/i8.ts";
import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import { STORE_SCALE, toI8Rows } from "../kernels/int8_rows.ts";
import { lanesOf, perRow, runPerRow } from "../kernels/row_reduction.ts";
import type { Tensor } from "../tensor.ts";

/** The parameters that distinguish kernels that cast. */
interface Cast {
  readonly from: MatrixFormat;
  readonly to: MatrixFormat;
  readonly scales: boolean;
  readonly adds: boolean;
}

const kernel = memo(({ from, to, scales, adds }: Cast) => {
  const adjusted = (part: "x" | "y", at: string) =>
    scales || adds
      ? `pair.${part} = bitcast<u32>(bitcast<f32>(pair.${part})${scales ? ` * scale[(${at}) / p.row_size]` : ""}${
        adds ? ` + added[${at}]` : ""
      });`
      : "";
  return perElement({
    name: `cast_${from}_${to}${scales ? "_scale" : ""}${adds ? "_add" : ""}`,
    buffers: {
      x: read(from.read.pair.element),
      ...scales && { scale: read("f32") },
      ...adds && { added: read("f32") },
      y: write("u32"),
      ...to.rounding?.counts && clampedBuffer,
    },
    params: u32s("numbers", "row_size", "counter"),
    declarations: from.read.pair.declare("x") + (to.rounding?.half ?? ""),
    body: `  var pair = ${from.read.pair.read("x", "i")};
  // There is no number past the last one.
  let ends = 2u * i + 1u == p.numbers;
  if (ends) { pair.y = 0u; }
  ${adjusted("x", "2u * i")}
  if (!ends) { ${adjusted("y", "2u * i + 1u")} }
${
      to.rounding ? "  y[i] = half(pair.x) | (half(pair.y) << 16u);" : `  y[2u * i] = pair.x;
  if (!ends) { y[2u * i + 1u] = pair.y; }`
    }`,
  });
});

/** Whether {@link castInto} can make numbers of a format. Others, such as quantised ones, can only be read. */
export const canCastTo = (format: MatrixFormat) => format === f32 || format.rounding !== undefined;

/**
 * Converts numbers to f32, or to a format of 16 bits to nearest, ties to even. Numbers past f16's range become ±65504
 * and are counted by the counter `counter` (see `Gpu.clampCounter`).
 *
 * @param x any format of matrices
 * @param y f32, f16 or bf16, the same number of elements; may be part of a tensor, but not of `x`
 * @param scale [rows], f32: each row of x is multiplied by its scale before it is rounded
 * @param added f32, the same number of elements: is added after that
 */
export function castInto(
  gpu: Gpu,
  x: Tensor,
  y: Tensor,
  counter: number,
  { scale, added }: { readonly scale?: Tensor | undefined; readonly added?: Tensor | undefined } = {},
): void {
  const from = x.matrixFormat, to = y.matrixFormat, numbers = y.size;
  const fits = (more: Tensor | undefined, size: number) => !more || more.size === size && more.format === f32;
  if (x.size !== numbers || !canCastTo(to) || !fits(scale, x.shape[0]!) || !fits(added, numbers)) {
    throw new Error(
      `cast of [${x.shape}] ${from} to [${y.shape}] ${to}${scale ? `, by [${scale.shape}]` : ""}${
        added ? `, with [${added.shape}] added` : ""
      }`,
    );
  }
  const kind = { from, to, scales: scale !== undefined, adds: added !== undefined };
  const buffers = { x, ...scale && { scale }, ...added && { added }, y };
  runPerElement(gpu, kernel(kind), buffers, { numbers, row_size: x.rowSize, counter }, Math.ceil(numbers / 2));
}

/** The parameters that distinguish kernels that cast to int8. */
type CastToInt8 = Omit<Cast, "to"> & { readonly plain: boolean };

const int8Kernel = memo(({ from, scales, adds, plain }: CastToInt8) => {
  const { four } = from.read, lanes = lanesOf(plain);
  const each = (body: string) =>
    `  for (var i = lane; i < p.dim4; i += ${lanes}u) { let v = turned(number(at + i, held));
    ${body}
  }`;
  return perRow(lanes, {
    name: `cast_${from}_i8${scales ? "_scale" : ""}${adds ? "_add" : ""}${plain ? "_plain" : ""}`,
    buffers: {
      x: read(four.element),
      ...scales && { scale: read("f32") },
      ...adds && { added: read("vec4f") },
      ...{ y: write("u32"), scales: write("f32") },
    },
    params: u32s("dim4"),
    declarations: `${toI8Rows(lanes)}${four.declare("x")}${four.unpack4}
fn number(i: u32, row: u32) -> vec4f {
  return unpack4(${four.read("x", "i")})${scales ? " * scale[row]" : ""}${adds ? " + added[i]" : ""};
}`,
    body: `  let held = min(row, p.rows - 1u);
  let at = held * p.dim4;
  var most = vec4u();
${each("most = max(most, magnitudes(v));")}
  let top = row_top(most, lane);
  if (row >= p.rows) { return; }
${STORE_SCALE}
${each("y[at + i] = four_i8(v * inverse);")}`,
  });
});

/**
 * Converts a matrix to int8 with a scale for each row: its largest magnitude over 127. Numbers are rounded to nearest,
 * ties to even, so each is off by at most half of its row's scale. A row with NaN gets NaN as its scale.
 *
 * @param x [rows, …], any format of matrices; rows of a multiple of four numbers
 * @param y i8, the shape of x; may be part of a tensor
 * @param scales [rows], f32: is written
 * @param more as for {@link castInto}
 */
export function castToInt8(
  gpu: Gpu,
  x: Tensor,
  y: Tensor,
  scales: Tensor,
  { scale, added }: { readonly scale?: Tensor | undefined; readonly added?: Tensor | undefined } = {},
): void {
  const from = x.matrixFormat, rows = x.shape[0]!, dim4 = x.rowSize / 4;
  const fits = (more: Tensor | undefined, size: number) => !more || more.size === size && more.format === f32;
  const wrong = x.size !== y.size || y.format !== i8 || !Number.isInteger(dim4) || dim4 * 4 % from.blockElements !== 0;
  if (wrong || !fits(scales, rows) || !fits(scale, rows) || !fits(added, x.size)) {
    throw new Error(`cast of [${x.shape}] ${from} to [${y.shape}] ${y.format} with scales of [${scales.shape}]`);
  }
  const { plain } = gpu.kernels, kind = { from, plain, scales: scale !== undefined, adds: added !== undefined };
  const buffers = { x, ...scale && { scale }, ...added && { added }, y, scales };
  runPerRow(gpu, int8Kernel(kind), buffers, { rows, dim4 });
}
