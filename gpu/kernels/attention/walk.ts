/**
 * How an attention kernel walks its tokens. A workgroup (or, on software adapters, a thread) holds a block of *outer*
 * rows and goes past *inner* rows: queries past keys on the way forward, either way round on the way back.
 *
 * Without a plan the outer rows are cut into equal blocks and every block goes past all inner rows. With a plan, rows
 * are *slots* of a sequence whose `order` says which token lies in each, and each block goes past its own list of runs
 * of slots: work follows the pairs that are kept.
 *
 * @module
 */
import { type Binding, type ParamType, read } from "../../kernel.ts";
import { chosenHead } from "../chosen_head.ts";

/** Less than any score, yet finite: exp of a difference of two of them is 1, not NaN. */
export const MASKED = "-1e30";

/** Whether tokens are walked by a plan. */
export interface WalkOptions {
  readonly plan: boolean;
  /** Outer rows that are held at once. */
  readonly rows: number;
}

/** WGSL pieces of a walk. */
export interface Walk {
  readonly buffers: Readonly<Record<string, Binding>>;
  readonly params: Readonly<Record<string, ParamType>>;
  /**
   * Defines `first` and `last`, the outer rows to hold, `h`, the head, and `head`, its first vec4 in a token. Leaves
   * the kernel where there are no such rows.
   *
   * @param part WGSL: index of the part of a block; a plan's blocks have `p.parts` of them, others one
   */
  begin(part: string): string;
  /** Token of an outer row; rows past the last stand for the last. */
  outer(row: string): string;
  /**
   * Loops over the inner rows in steps, run by run: `at` is the first row of a step, `end` lies behind the last that it
   * may take.
   */
  steps(step: number, body: string): string;
  /** Token of an inner row; rows from `end` on stand for the last before it. */
  inner(row: string): string;
}

/** The pieces for one kernel. */
export function walk({ plan, rows }: WalkOptions): Walk {
  const shared = {
    params: {
      /** tokens of a batch item on either side */
      outer: "u32",
      inner: "u32",
      heads: "u32",
      /** heads · head dim / 4: vec4s from one token to the next */
      dim4: "u32",
      scale: "f32",
      /** whether wid.y counts the heads of `head_ids` rather than all */
      has_heads: "u32",
    },
    head: `${chosenHead("h", "wid.y")}
  let head = h * (p.dim4 / p.heads);`,
  } as const;
  if (!plan) {
    return {
      buffers: { head_ids: read("u32"), key_lengths: read("u32") },
      params: { ...shared.params, has_lengths: "u32" },
      begin: (part) =>
        `  let first = ${part} * ${rows}u;
  if (first >= p.outer) { return; }
  let last = min(first + ${rows}u, p.outer) - 1u;
  var end = p.inner;
  if (p.has_lengths != 0u) { end = key_lengths[wid.z]; }
${shared.head}`,
      outer: (row) => `(wid.z * p.outer + min(${row}, last))`,
      steps: (step, body) => `  for (var at = 0u; at < end; at += ${step}u) {\n${body}\n  }`,
      inner: (row) => `(wid.z * p.inner + min(${row}, end - 1u))`,
    };
  }
  return {
    buffers: { head_ids: read("u32"), order: read("u32"), blocks: read("vec4u"), runs: read("vec2u") },
    params: {
      ...shared.params,
      /** from one head's order to the next; 0 where all share one */
      order_stride: "u32",
      /** from one head's runs to the next; 0 where all share them */
      runs_stride: "u32",
      block_count: "u32",
      /** parts that a block is held in, one after the other */
      parts: "u32",
    },
    begin: (part) =>
      `  if (${part} >= p.block_count * p.parts) { return; }
  let block = blocks[${part} / p.parts];
  let before = (${part} % p.parts) * ${rows}u;
  if (before >= block.y) { return; }
  let first = block.x + before;
  let last = block.x + min(before + ${rows}u, block.y) - 1u;
${shared.head}
  let own_order = (wid.z * p.heads + h) * p.order_stride;
  let own_runs = (wid.z * p.heads + h) * p.runs_stride + block.z;`,
    outer: (row) => `(wid.z * p.outer + order[own_order + min(${row}, last)])`,
    steps: (step, body) =>
      `  for (var r = 0u; r < block.w; r++) {
  let run = runs[own_runs + r];
  let end = run.x + run.y;
  for (var at = run.x; at < end; at += ${step}u) {
${body}
  }
  }`,
    inner: (row) => `(wid.z * p.inner + order[own_order + min(${row}, end - 1u)])`,
  };
}
