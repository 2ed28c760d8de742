import { FOUR_HALVES } from "../formats/halves.ts";
import type { MatrixFormat } from "../formats/format.ts";
import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import { sizeOf, type Tensor } from "../tensor.ts";

const kernel = memo((format: MatrixFormat) => {
  const { one } = format.read;
  const four = (from: number) =>
    `four_halves(vec4f(${[0, 1, 2, 3].map((i) => one.read("x", `(first + ${from + i}u * p.columns)`)).join(", ")}))`;
  return perElement({
    name: `transpose_halves_${format}`,
    buffers: { x: read(one.element), y: write("vec4u") },
    params: u32s("rows", "columns"),
    declarations: one.declare("x") + FOUR_HALVES,
    // Neighbouring threads read neighbouring columns.
    body: `  let column = i % p.columns;
  let eight = i / p.columns;
  let first = eight * 8u * p.columns + column;
  y[column * (p.rows / 8u) + eight] = vec4u(${four(0)}, ${four(4)});`,
  });
});

/**
 * A matrix transposed, in f16. Numbers that f16 cannot hold are clamped.
 *
 * @param x [rows, columns], any format of matrices; `rows` a multiple of 8
 * @returns [columns, rows], f16
 */
export function transposeHalves(gpu: Gpu, x: Tensor): Tensor {
  const rows = x.dim(0), columns = sizeOf(x.shape) / rows;
  if (rows % 8 !== 0) throw new Error(`transposeHalves: [${x.shape}] has no multiple of 8 rows`);
  const y = gpu.tensor([columns, rows], "f16");
  return runPerElement(gpu, kernel(x.matrixFormat), { x, y }, { rows, columns }, rows / 8 * columns);
}
