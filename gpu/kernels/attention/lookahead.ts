/**
 * The loop over keys in the forward kernels for GPUs. A step is long and continues across a plan's runs, so that only
 * the last step is partly filled. A run may end anywhere in a step. So for each step, the kernel looks up where each
 * row lies, one step ahead, and stores that in workgroup memory.
 *
 * @module
 */
import { unroll } from "../../kernel.ts";
import { type AttentionLoop, attentionLoop, type LoopOptions } from "./loop.ts";

export interface LookaheadOptions extends LoopOptions {
  /** The number of inner rows in a step. */
  readonly step: number;
  /** The threads of the workgroup: a multiple of `step`, or a divisor of it. */
  readonly threads: number;
  /** The inner rows are stored head by head, and with a plan in the order of slots, not of tokens. See `pack.ts`. */
  readonly sorted?: boolean;
}

/** WGSL pieces of such a loop. For `begin` and `outer` see {@link AttentionLoop}. */
export interface LookaheadLoop extends Omit<AttentionLoop, "steps" | "inner"> {
  /** Module-scope WGSL. */
  readonly declarations: string;
  /** The bytes of workgroup memory that it uses. */
  readonly bytes: number;
  /** Loops over the inner rows. `at` is the number of rows before a step, `end` the number of all rows. */
  steps(pieces: Steps): string;
  /** The index of row `row` of a step in the inner tensor. Rows past the end repeat the last row. */
  inner(row: string): string;
  /** The same for the next step. */
  next(row: string): string;
}

/** WGSL inside the loop. */
export interface Steps {
  /** Code before the first step, while its rows are looked up. A barrier follows it. */
  readonly before?: string;
  /** Code before the first step, for which the rows are looked up already. */
  readonly first?: string;
  readonly body: string;
  /** The rest of a step. Once it has passed a barrier, the next step's rows are known, too. A barrier follows it. */
  readonly rest?: string;
}

/** The number of runs whose lengths are read at once, so that none waits for another. */
const TOGETHER = 32;

/** Builds the pieces for one kernel. */
export function lookaheadLoop({ plan, rows, step, threads, sorted = false }: LookaheadOptions): LookaheadLoop {
  const { buffers, params, begin, outer } = attentionLoop({ plan, rows });
  const before = `${sorted ? "(wid.z * nwg.y + wid.y)" : "wid.z"} * p.inner`;
  if (!plan) {
    return {
      ...{ declarations: "", bytes: 0, buffers, params, begin, outer },
      steps: ({ before, ...pieces }) =>
        `  var at = 0u;\n${before ? `${before}\n  workgroupBarrier();\n` : ""}${loop(step, pieces)}`,
      inner: (row) => `(${before} + min(at + ${row}, end - 1u))`,
      next: (row) => `(${before} + min(at + ${step}u + ${row}, end - 1u))`,
    };
  }
  const slot = "run.x + row - passed";
  const found = (line: (i: number) => string) => unroll(Math.max(1, step / threads), line);
  // A thread's rows increase from step to step, so it continues from its current run. The run after that is read long
  // before it is needed.
  const lookUp = (first: string) =>
    found((i) =>
      `    var ahead${i} = 0u;
    ${threads > step ? `if (li < ${step}u)` : ""} {
      let row = min(${first} + li + ${i * threads}u, end - 1u);
      while (row >= passed + run.y) {
        passed += run.y;
        run = coming;
        open = min(open + 1u, own_runs + block.w - 1u);
        coming = runs[open];
      }
      ahead${i} = ${before} + ${sorted ? slot : `order[own_order + ${slot}]`};
    }`
    );
  // There are two buffers, for two steps: no thread still reads the one that is overwritten.
  const kept = (at: string, row: string) => `rows_ahead[${at} % ${2 * step}u + ${row}]`;
  const keep = (at: string) =>
    found((i) =>
      `    ${threads > step ? `if (li < ${step}u) ` : ""}{ ${kept(at, `li + ${i * threads}u`)} = ahead${i}; }`
    );
  const lengths = (from: string) =>
    unroll(
      TOGETHER,
      (i) => `    end += select(0u, runs[own_runs + min(${from} + ${i}u, block.w - 1u)].y, ${from} + ${i}u < block.w);`,
    );
  const later = `(at + ${step}u)`;
  return {
    declarations: `var<workgroup> rows_ahead: array<u32, ${2 * step}>;\n`,
    ...{ bytes: 8 * step, buffers, params, outer },
    // Most lists are no longer than this. The next read need not wait for them.
    begin: (at) => `${begin(at)}\n  var end = 0u;\n${lengths("0u")}`,
    steps: ({ before = "", first, body, rest }) =>
      `  for (var r = ${TOGETHER}u; r < block.w; r += ${TOGETHER}u) {
${lengths("r")}
  }
  var run = runs[own_runs];
  var open = min(own_runs + 1u, own_runs + block.w - 1u);
  var coming = runs[open];
  var passed = 0u;
  var at = 0u;
  {
${lookUp("0u")}
${keep("at")}
  }
${before}
  workgroupBarrier();
  // This is looked up long before it is needed, so nothing waits for it.
${loop(step, { ...first && { first }, body: `${lookUp(later)}\n${body}\n${keep(later)}`, ...rest && { rest } })}`,
    inner: (row) => kept("at", row),
    next: (row) => kept(later, row),
  };
}

/** The loop itself; `at` is in scope. */
function loop(step: number, { first = "", body, rest = "" }: Omit<Steps, "before">): string {
  return `${first}
  for (; at < end; at += ${step}u) {
${body}
${rest}
    workgroupBarrier();
  }`;
}
