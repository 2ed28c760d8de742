/**
 * Kernels that reduce each row of a matrix have two forms of one body. On a GPU, a workgroup shares a row and sums it
 * through workgroup memory. On a software adapter, where barriers are expensive, each thread takes a row of its own
 * (`plain`).
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { folded, type KernelSource, unroll } from "../kernel.ts";
import type { Dispatch } from "../recorder.ts";

const LANES = 128;
/** The number of partial sums that one thread adds in the first step. */
const SHARE = 8;

/** A workgroup for each row. */
const SHARED = {
  workgroupSize: [LANES, 1, 1],
  index: `let row = wid.y * nwg.x + wid.x; let lane = li;`,
  // There are two steps, and no barrier after the last: if a second sum follows, its first barrier separates it from
  // the reads of the first.
  rowSum: `
var<workgroup> partial: array<f32, ${LANES}>;
var<workgroup> partial_sums: array<f32, ${LANES / SHARE}>;
fn row_sum(value: f32, lane: u32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  if (lane < ${LANES / SHARE}u) {
    var sum = 0.0;
${unroll(SHARE, (i) => `    sum += partial[lane + ${i * LANES / SHARE}u];`)}
    partial_sums[lane] = sum;
  }
  workgroupBarrier();
  var sum = 0.0;
${unroll(LANES / SHARE, (i) => `  sum += partial_sums[${i}];`)}
  return sum;
}`,
} as const;

/** A thread for each row. */
const ALONE = {
  workgroupSize: [8, 1, 1],
  index: `let row = (wid.y * nwg.x + wid.x) * 8u + li; let lane = 0u;`,
  rowSum: `fn row_sum(value: f32, lane: u32) -> f32 { return value; }`,
} as const;

/**
 * WGSL for a kernel of {@link perRow}: `row_max(value: u32, lane)`, the largest of the row's threads. The bits of
 * floats without their signs are in the order of their magnitudes, with NaN last.
 */
export const rowMax = (plain: boolean): string =>
  plain ? "fn row_max(value: u32, lane: u32) -> u32 { return value; }" : `
var<workgroup> partial_max: array<u32, ${LANES}>;
var<workgroup> partial_maxima: array<u32, ${LANES / SHARE}>;
fn row_max(value: u32, lane: u32) -> u32 {
  partial_max[lane] = value;
  workgroupBarrier();
  if (lane < ${LANES / SHARE}u) {
    var most = 0u;
${unroll(SHARE, (i) => `    most = max(most, partial_max[lane + ${i * LANES / SHARE}u]);`)}
    partial_maxima[lane] = most;
  }
  workgroupBarrier();
  var most = 0u;
${unroll(LANES / SHARE, (i) => `  most = max(most, partial_maxima[${i}]);`)}
  return most;
}`;

/** The number of threads that share a row. */
export const lanesOf = (plain: boolean) => plain ? 1 : LANES;

/**
 * Makes such a kernel. Its body has `row`, `lane` (of {@link lanesOf}), and `row_sum(value, lane)`, the sum over the
 * row's threads. A thread without a row must still reach the barriers. The parameter `rows` is added.
 */
export function perRow(plain: boolean, kernel: Omit<KernelSource, "workgroupSize">): KernelSource {
  const { workgroupSize, index, rowSum } = plain ? ALONE : SHARED;
  return {
    ...kernel,
    params: { rows: "u32", ...kernel.params },
    workgroupSize,
    declarations: `${rowSum}${kernel.declarations ?? ""}`,
    body: `  ${index}\n${kernel.body}`,
  };
}

/** Records such a kernel; `rows` is among its parameters. */
export function runPerRow(
  gpu: Gpu,
  kernel: KernelSource,
  buffers: Dispatch["buffers"],
  params: Dispatch["params"] & { readonly rows: number },
): void {
  const workgroups = folded(gpu.kernels.plain ? Math.ceil(params.rows / 8) : params.rows);
  gpu.run(kernel, { buffers, params, workgroups });
}

/** The most vec4s of a row that a thread holds: 6144 channels, over the threads of a GPU's workgroup. */
const MOST_HELD = 12;

/**
 * How many vec4s {@link rowVectors} should hold. 0 means that they are read each time: one thread has the whole row, or
 * it is too long.
 *
 * @param most the most that it may hold
 */
export function heldVectors(plain: boolean, dim4: number, most = MOST_HELD): number {
  const each = Math.ceil(dim4 / LANES);
  return plain || each > most ? 0 : each;
}

/**
 * How a kernel reads the vec4s of its row of `x`, which starts at `at` and has `p.dim4` of them.
 *
 * @param read WGSL: the vec4 at an index
 * @param held vec4s that each thread holds in registers, so that a row is read once however often it is used
 * @returns WGSL that loads the held vec4s, and WGSL that runs `body` for each of the thread's vec4s, given its name and
 * its position in the row. What is held can be assigned
 */
export function rowVectors(plain: boolean, held: number, read = (index: string) => `x[${index}]`) {
  const lanes = lanesOf(plain);
  type Each = (body: (v: string, i: string) => string) => string;
  const again: Each = (body) =>
    `  for (var i = lane; i < p.dim4; i += ${lanes}u) { let v = ${read("at + i")};\n    ${body("v", "i")}\n  }`;
  const once: Each = (body) => unroll(held, (n) => `  if (i${n} < p.dim4) { ${body(`v${n}`, `i${n}`)} }`);
  return {
    load: unroll(
      held,
      (n) => `  let i${n} = lane + ${n * lanes}u; var v${n} = ${read(`at + min(i${n}, p.dim4 - 1u)`)};`,
    ),
    each: held === 0 ? again : once,
  };
}
