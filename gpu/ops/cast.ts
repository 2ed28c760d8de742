import { clampedBuffer } from "../clamps.ts";
import { f32 } from "../formats/f32.ts";
import type { MatrixFormat } from "../formats/format.ts";
import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
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
