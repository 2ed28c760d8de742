/**
 * Converts matrices to another number format.
 *
 * @module
 */
import { clampedBuffer } from "../clamps.ts";
import type { MatrixFormat } from "../formats/format.ts";
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./per_element.ts";

const kernel = memo(({ from, to }: { from: MatrixFormat; to: MatrixFormat }): KernelSource => ({
  name: `cast_${from}_${to}`,
  buffers: { x: read(from.read.pair.element), y: write("u32"), ...to.rounding!.counts && clampedBuffer },
  params: { count: "u32", numbers: "u32", place: "u32" },
  workgroupSize: [64, 1, 1],
  declarations: from.read.pair.declare("x") + to.rounding!.half,
  body: `  ${INDEX_1D}
  if (i >= p.count) { return; }
  var pair = ${from.read.pair.read("x", "i")};
  // There is no number past the last one.
  if (2u * i + 1u == p.numbers) { pair.y = 0u; }
  y[i] = half(pair.x) | (half(pair.y) << 16u);`,
}));

/**
 * Converts numbers to a format of 16 bits, to nearest, ties to even. Numbers past f16's range become ±65504 and are
 * counted under `place` (see `ClampCounter.counterOf`).
 *
 * @param x any format of matrices
 * @param y f16 or bf16, the same number of elements; may be part of a tensor
 */
export function castInto(gpu: Gpu, x: Tensor, y: Tensor, place: number): void {
  const from = x.matrixFormat, to = y.matrixFormat, numbers = y.size, count = Math.ceil(numbers / 2);
  if (x.size !== numbers || from === to || !to.rounding) {
    throw new Error(`cast of [${x.shape}] ${from} to [${y.shape}] ${to}`);
  }
  const params = { count, numbers, place };
  gpu.run(kernel({ from, to }), { buffers: { x, y }, params, workgroups: groups1d(count) });
}
