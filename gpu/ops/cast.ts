/**
 * Converts matrices to another number format.
 *
 * @module
 */
import { clampedBuffer } from "../clamps.ts";
import { f32 } from "../formats/f32.ts";
import type { MatrixFormat } from "../formats/format.ts";
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./per_element.ts";

/** What distinguishes kernels that cast. */
interface Cast {
  readonly from: MatrixFormat;
  readonly to: MatrixFormat;
  readonly adds: boolean;
}

const kernel = memo(({ from, to, adds }: Cast): KernelSource => ({
  name: `cast_${from}_${to}${adds ? "_add" : ""}`,
  buffers: {
    x: read(from.read.pair.element),
    ...adds && { added: read("f32") },
    y: write("u32"),
    ...to.rounding?.counts && clampedBuffer,
  },
  params: { count: "u32", numbers: "u32", place: "u32" },
  workgroupSize: [64, 1, 1],
  declarations: from.read.pair.declare("x") + (to.rounding?.half ?? ""),
  body: `  ${INDEX_1D}
  if (i >= p.count) { return; }
  var pair = ${from.read.pair.read("x", "i")};
  // There is no number past the last one.
  let ends = 2u * i + 1u == p.numbers;
  if (ends) { pair.y = 0u; }
${
    adds
      ? `  pair.x = bitcast<u32>(bitcast<f32>(pair.x) + added[2u * i]);
  if (!ends) { pair.y = bitcast<u32>(bitcast<f32>(pair.y) + added[2u * i + 1u]); }
`
      : ""
  }${
    to.rounding ? "  y[i] = half(pair.x) | (half(pair.y) << 16u);" : `  y[2u * i] = pair.x;
  if (!ends) { y[2u * i + 1u] = pair.y; }`
  }`,
}));

/**
 * Converts numbers to f32, or to a format of 16 bits to nearest, ties to even. Numbers past f16's range become ±65504
 * and are counted under `place` (see `ClampCounter.counterOf`).
 *
 * @param x any format of matrices
 * @param y f32, f16 or bf16, the same number of elements; may be part of a tensor, but not of `x`
 * @param added f32, the same number of elements: what is added before numbers are rounded
 */
export function castInto(gpu: Gpu, x: Tensor, y: Tensor, place: number, added?: Tensor): void {
  const from = x.matrixFormat, to = y.matrixFormat, numbers = y.size, count = Math.ceil(numbers / 2);
  if (x.size !== numbers || !to.rounding && to !== f32 || added && (added.size !== numbers || added.format !== f32)) {
    throw new Error(
      `cast of [${x.shape}] ${from} to [${y.shape}] ${to}${added ? `, with [${added.shape}] added` : ""}`,
    );
  }
  gpu.run(kernel({ from, to, adds: added !== undefined }), {
    buffers: { x, ...added && { added }, y },
    params: { count, numbers, place },
    workgroups: groups1d(count),
  });
}
