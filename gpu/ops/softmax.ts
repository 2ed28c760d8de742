import type { Gpu } from "../gpu.ts";
import { type KernelSource, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";

const LANES = 128;

const SHARED = {
  buffers: { x: write("f32") },
  params: { ...u32s("rows", "columns", "stride"), factor: "f32" },
} as const;

/** One thread for each row. */
const ALONE: KernelSource = {
  name: "softmax_plain",
  ...SHARED,
  workgroupSize: [8, 1, 1],
  body: `  if (gid.x >= p.rows) { return; }
  let at = gid.x * p.stride;
  var top = x[at];
  for (var i = 1u; i < p.columns; i++) { top = max(top, x[at + i]); }
  var sum = 0.0;
  for (var i = 0u; i < p.columns; i++) { let e = exp(x[at + i] - top); x[at + i] = e; sum += e; }
  for (var i = 0u; i < p.columns; i++) { x[at + i] = x[at + i] * p.factor / sum; }
  for (var i = p.columns; i < p.stride; i++) { x[at + i] = 0.0; }`,
};

/** One workgroup for each row. */
const TOGETHER: KernelSource = {
  name: "softmax",
  ...SHARED,
  workgroupSize: [LANES, 1, 1],
  declarations: `var<workgroup> partial: array<f32, ${LANES}>;`,
  body: `  let at = wid.x * p.stride;
  var top = x[at];
  for (var i = li; i < p.columns; i += ${LANES}u) { top = max(top, x[at + i]); }
  partial[li] = top;
  workgroupBarrier();
  for (var half = ${LANES / 2}u; half > 0u; half /= 2u) {
    if (li < half) { partial[li] = max(partial[li], partial[li + half]); }
    workgroupBarrier();
  }
  top = partial[0];
  workgroupBarrier();
  var sum = 0.0;
  for (var i = li; i < p.columns; i += ${LANES}u) { let e = exp(x[at + i] - top); x[at + i] = e; sum += e; }
  partial[li] = sum;
  workgroupBarrier();
  for (var half = ${LANES / 2}u; half > 0u; half /= 2u) {
    if (li < half) { partial[li] += partial[li + half]; }
    workgroupBarrier();
  }
  sum = partial[0];
  for (var i = li; i < p.stride; i += ${LANES}u) { x[at + i] = select(0.0, x[at + i] * p.factor / sum, i < p.columns); }`,
};

/**
 * Softmax of every row, in place.
 *
 * @param x [rows, width], f32; at most 65535 rows
 * @param columns how many elements of a row take part; the others become 0
 * @param factor what a row then adds up to
 */
export function softmaxInPlace(gpu: Gpu, x: Tensor, columns: number, factor = 1): void {
  const stride = x.dim(-1), rows = x.size / stride;
  gpu.run(gpu.kernels.plain ? ALONE : TOGETHER, {
    buffers: { x },
    params: { rows, columns, stride, factor },
    workgroups: [gpu.kernels.plain ? Math.ceil(rows / 8) : rows, 1, 1],
  });
}
