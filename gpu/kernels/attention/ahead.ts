/**
 * The walk of the forward kernels for GPUs: long steps that go on across a plan's runs, so that only the last one is
 * partly filled. A run's end may lie anywhere in a step, so which row comes where is looked up, once a step and row, a
 * step ahead, into workgroup memory.
 *
 * @module
 */
import { unroll } from "../../kernel.ts";
import { type Walk, walk, type WalkOptions } from "./walk.ts";

/** How a workgroup goes. */
export interface AheadOptions extends WalkOptions {
  /** Inner rows of a step. */
  readonly step: number;
  /** Of the workgroup: a multiple of `step`, or a part of it that goes in evenly. */
  readonly threads: number;
  /** The inner rows lie in the order of slots, not of tokens. */
  readonly sorted?: boolean;
}

/** WGSL pieces of such a walk; of `begin` and `outer` see {@link Walk}. */
export interface AheadWalk extends Omit<Walk, "steps" | "inner"> {
  /** Module-scope WGSL. */
  readonly declarations: string;
  /** Bytes of workgroup memory it takes. */
  readonly bytes: number;
  /** Loops over the inner rows: `at` counts those before a step, `end` is how many there are. */
  steps(pieces: Steps): string;
  /** Where row `row` of a step lies in the inner tensor; rows from the last on stand for the last. */
  inner(row: string): string;
  /** The same of the step after. */
  next(row: string): string;
}

/** WGSL that goes into the loop. */
export interface Steps {
  /** Before the first step, whose rows are known. */
  readonly first?: string;
  readonly body: string;
  /** Knows the next step's rows, too, once it has passed a barrier; the workgroup meets after it. */
  readonly rest?: string;
}

/** Runs whose lengths are read at once: none waits for another. */
const TOGETHER = 32;

/** The pieces for one kernel. */
export function walkAhead({ plan, rows, step, threads, sorted = false }: AheadOptions): AheadWalk {
  const { buffers, params, begin, outer } = walk({ plan, rows });
  if (!plan) {
    return {
      declarations: "",
      bytes: 0,
      buffers,
      params,
      begin,
      outer,
      steps: (pieces) => `  var at = 0u;\n${loop(step, pieces)}`,
      inner: (row) => `(wid.z * p.inner + min(at + ${row}, end - 1u))`,
      next: (row) => `(wid.z * p.inner + min(at + ${step}u + ${row}, end - 1u))`,
    };
  }
  const slot = "run.x + row - passed";
  const found = (line: (i: number) => string) => unroll(Math.max(1, step / threads), line);
  // A thread's rows rise from step to step, so it goes on from the run where it was. The run after that is read long
  // before it is reached.
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
      ahead${i} = wid.z * p.inner + ${sorted ? slot : `order[own_order + ${slot}]`};
    }`
    );
  // Those of two steps: nobody still reads what is written over.
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
    bytes: 8 * step,
    buffers,
    params,
    // Most lists are no longer: what is read next need not wait for them.
    begin: (at) => `${begin(at)}\n  var end = 0u;\n${lengths("0u")}`,
    outer,
    steps: ({ first, body, rest }) =>
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
  workgroupBarrier();
  // Looked up long before it is needed: nothing waits for it.
${loop(step, { ...first && { first }, body: `${lookUp(later)}\n${body}\n${keep(later)}`, ...rest && { rest } })}`,
    inner: (row) => kept("at", row),
    next: (row) => kept(later, row),
  };
}

/** The loop itself; `at` is there. */
function loop(step: number, { first = "", body, rest = "" }: Steps): string {
  return `${first}
  for (; at < end; at += ${step}u) {
${body}
${rest}
    workgroupBarrier();
  }`;
}
