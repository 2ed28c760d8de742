import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { memo } from "../kernels/memo.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** The number of rows that one thread adds. */
const ROWS = 64;

const kernel = memo((of: "sum" | "largest") =>
  perElement({
    name: `${of}_rows`,
    buffers: { x: read("f32"), y: write("f32") },
    params: u32s("rows", "columns", "parts"),
    body: `  let column = i % p.columns;
  let part = (i / p.columns) % p.parts;
  let batch = i / (p.columns * p.parts);
  var sum = 0.0;
  for (var r = part * ${ROWS}u; r < min((part + 1u) * ${ROWS}u, p.rows); r++) {
    let found = x[(batch * p.rows + r) * p.columns + column];
    sum = ${of === "sum" ? "sum + found" : "max(sum, abs(found))"};
  }
  y[i] = sum;`,
  })
);

function overRows(gpu: Gpu, x: Tensor, of: "sum" | "largest"): Tensor {
  const [batch, , columns] = x.shape as [number, number, number];
  return gpu.scope(() => {
    let found = x;
    do {
      const rows = found.dim(1), parts = Math.ceil(rows / ROWS);
      const y = gpu.tensor([batch, parts, columns]);
      found = runPerElement(gpu, kernel(of), { x: found, y }, { rows, columns, parts });
    } while (found.dim(1) > 1);
    return found.reshape([batch, columns]);
  });
}

/**
 * Sums of the columns. The order of additions depends only on the shape, so the same numbers give the same bits.
 *
 * @param x [batch, rows, columns], f32
 * @returns [batch, columns], f32
 */
export function sumRows(gpu: Gpu, x: Tensor): Tensor {
  return overRows(gpu, x, "sum");
}

/**
 * The largest magnitudes of the columns.
 *
 * @param x [batch, rows, columns], f32
 * @returns [batch, columns], f32
 */
export function largestOfRows(gpu: Gpu, x: Tensor): Tensor {
  return overRows(gpu, x, "largest");
}
