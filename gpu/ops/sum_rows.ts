import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { chosenHead, chosenHeads, HEAD_PARAMS, type Heads } from "../kernels/chosen_heads.ts";
import { memo } from "../kernels/memo.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** The number of rows that one thread adds. */
const ROWS = 64;

const kernel = memo((of: "sum" | "largest") =>
  perElement({
    name: `${of}_rows`,
    buffers: { x: read("f32"), head_ids: read("u32"), y: write("f32") },
    // `width` is the number of columns of the chosen heads.
    params: { ...u32s("rows", "columns", "parts", "width", "head_dim"), ...HEAD_PARAMS },
    body: `  let at = i % p.width;
  let part = (i / p.width) % p.parts;
  let batch = i / (p.width * p.parts);
${chosenHead("h", "at / p.head_dim")}
  let column = h * p.head_dim + at % p.head_dim;
  var sum = 0.0;
  for (var r = part * ${ROWS}u; r < min((part + 1u) * ${ROWS}u, p.rows); r++) {
    let found = x[(batch * p.rows + r) * p.columns + column];
    sum = ${of === "sum" ? "sum + found" : "max(sum, abs(found))"};
  }
  y[(batch * p.parts + part) * p.columns + column] = sum;`,
  })
);

function overRows(gpu: Gpu, x: Tensor, of: "sum" | "largest", heads: Heads = { heads: 1 }): Tensor {
  const [batch, , columns] = x.shape as [number, number, number], headDim = columns / heads.heads;
  const { chosen, head_ids, params } = chosenHeads(gpu, heads), width = chosen * headDim;
  return gpu.scope(() => {
    let found = x;
    do {
      const rows = found.dim(1), parts = Math.ceil(rows / ROWS);
      const y = gpu.tensor([batch, parts, columns]);
      const all = { ...params, rows, columns, parts, width, head_dim: headDim };
      found = runPerElement(gpu, kernel(of), { x: found, head_ids, y }, all, batch * parts * width);
    } while (found.dim(1) > 1);
    return found.reshape([batch, columns]);
  });
}

/**
 * Sums of the columns. The order of additions depends only on the shape, so the same numbers give the same bits.
 *
 * @param x [batch, rows, columns], f32
 * @param heads to which equal parts of the columns belong: those of other heads are left out, and have undefined sums
 * @returns [batch, columns], f32
 */
export function sumRows(gpu: Gpu, x: Tensor, heads?: Heads): Tensor {
  return overRows(gpu, x, "sum", heads);
}

/** The largest magnitudes of the columns. For parameters and result see {@link sumRows}. */
export function largestOfRows(gpu: Gpu, x: Tensor, heads?: Heads): Tensor {
  return overRows(gpu, x, "largest", heads);
}
