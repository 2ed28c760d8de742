/**
 * Kernels that reduce each row of a matrix have three forms of one body. On a GPU, a workgroup shares a row and sums it
 * through workgroup memory, or, where rows are short, a part of a workgroup. On a software adapter, where barriers are
 * expensive, each thread takes a row of its own (`plain`).
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { folded, type KernelSource, unroll } from "../kernel.ts";
import type { Dispatch } from "../recorder.ts";

/** The number of threads that share a row. */
export type Lanes = 1 | 32 | 128;

/** The threads of a workgroup, in which several share a row. */
const THREADS = 128;
/** The number of partial sums that one thread adds in the first step. */
const SHARE = 8;
/** The most vec4s of a row that is short: with a workgroup for each, half of the threads and more would be idle. */
const SHORT = 64;

/** The number of threads that share a row, of any length. */
export const lanesOf = (plain: boolean): Lanes => plain ? 1 : THREADS;

/** How a kernel works on rows of a length. */
export interface RowForm {
  /** The number of threads that share a row. */
  readonly lanes: Lanes;
  /**
   * The vec4s that each thread holds in registers, so that a row is read once however often it is used. 0 means that they
   * are read each time: one thread has the whole row, or it is too long.
   */
  readonly held: number;
}

/**
 * The form for rows of `dim4` vec4s.
 *
 * @param most the most vec4s that a thread may hold. Default: those of 6144 channels, over the threads of a GPU's workgroup
 */
export function rowForm(plain: boolean, dim4: number, most = 12): RowForm {
  const lanes = !plain && dim4 <= SHORT ? 32 : lanesOf(plain), each = Math.ceil(dim4 / lanes);
  return { lanes, held: plain || each > most ? 0 : each };
}

/** A part of a kernel's name: its form. */
export const formName = ({ lanes, held }: RowForm) =>
  lanes === 1 ? "plain" : lanes === THREADS ? `${held}` : `short_${held}`;

/** The number of rows of a workgroup. */
const rowsOf = (lanes: Lanes) => lanes === 1 ? 8 : THREADS / lanes;

/**
 * WGSL: a function that combines a value of each thread of a row. There are two steps, and no barrier after the last: if
 * a second one follows, its first barrier separates it from the reads of the first.
 *
 * @param lanes more than one
 * @param combine WGSL: combines `so_far` with another value
 */
function rowFunction(
  lanes: Lanes,
  { name, type, zero, combine }: { name: string; type: string; zero: string; combine: (other: string) => string },
): string {
  const first = lanes / SHARE, rows = rowsOf(lanes);
  const [own, sums] = rows === 1 ? ["", ""] : [`row_of_group * ${lanes}u + `, `row_of_group * ${first}u + `];
  return `
var<workgroup> ${name}_parts: array<${type}, ${THREADS}>;
var<workgroup> ${name}_sums: array<${type}, ${THREADS / SHARE}>;
fn ${name}(value: ${type}, lane: u32) -> ${type} {
  ${name}_parts[${own}lane] = value;
  workgroupBarrier();
  if (lane < ${first}u) {
    var so_far = ${zero};
${unroll(SHARE, (i) => `    ${combine(`${name}_parts[${own}lane + ${i * first}u]`)}`)}
    ${name}_sums[${sums}lane] = so_far;
  }
  workgroupBarrier();
  var so_far = ${zero};
${unroll(first, (i) => `  ${combine(`${name}_sums[${sums}${i}]`)}`)}
  return so_far;
}`;
}

/** WGSL: `row_sum(value: f32, lane)`, the sum over the row's threads. */
const rowSum = (lanes: Lanes): string =>
  lanes === 1
    ? "fn row_sum(value: f32, lane: u32) -> f32 { return value; }"
    : rowFunction(lanes, { name: "row_sum", type: "f32", zero: "0.0", combine: (other) => `so_far += ${other};` });

/**
 * WGSL for a kernel of {@link perRow}: `row_max(value: u32, lane)`, the largest of the row's threads. The bits of
 * floats without their signs are in the order of their magnitudes, with NaN last.
 */
export const rowMax = (lanes: Lanes): string =>
  lanes === 1 ? "fn row_max(value: u32, lane: u32) -> u32 { return value; }" : rowFunction(lanes, {
    ...{ name: "row_max", type: "u32", zero: "0u" },
    combine: (other) => `so_far = max(so_far, ${other});`,
  });

/**
 * Makes such a kernel. Its body has `row`, `lane` (of `lanes`), and `row_sum(value, lane)`, the sum over the row's
 * threads. A thread without a row must still reach the barriers. The parameter `rows` is added.
 */
export function perRow(lanes: Lanes, kernel: Omit<KernelSource, "workgroupSize">): KernelSource {
  const rows = rowsOf(lanes), group = "(wid.y * nwg.x + wid.x)";
  const index = rows === 1
    ? `let row = ${group}; let lane = li;`
    : lanes === 1
    ? `let row = ${group} * ${rows}u + li; let lane = 0u;`
    : `row_of_group = li / ${lanes}u; let row = ${group} * ${rows}u + row_of_group; let lane = li % ${lanes}u;`;
  const own = rows > 1 && lanes > 1 ? "var<private> row_of_group: u32;" : "";
  return {
    ...kernel,
    params: { rows: "u32", ...kernel.params },
    workgroupSize: [rows * lanes, 1, 1],
    declarations: `${own}${rowSum(lanes)}${kernel.declarations ?? ""}`,
    body: `  ${index}\n${kernel.body}`,
  };
}

/** Records such a kernel; `rows` is among its parameters. */
export function runPerRow(
  gpu: Gpu,
  kernel: KernelSource,
  buffers: Dispatch["buffers"],
  params: Dispatch["params"] & { readonly rows: number },
  lanes: Lanes = lanesOf(gpu.kernels.plain),
): void {
  gpu.run(kernel, { buffers, params, workgroups: folded(Math.ceil(params.rows / rowsOf(lanes))) });
}

/**
 * How a kernel reads the vec4s of its row of `x`, which starts at `at` and has `p.dim4` of them.
 *
 * @param read WGSL: the vec4 at an index
 * @returns WGSL that loads the held vec4s, and WGSL that runs `body` for each of the thread's vec4s, given its name and
 * its position in the row. What is held can be assigned
 */
export function rowVectors({ lanes, held }: RowForm, read = (index: string) => `x[${index}]`) {
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
