/**
 * How an attention kernel loops over tokens. A workgroup (on software adapters, a thread) holds a block of *outer* rows
 * and loops over *inner* rows. In the forward pass, outer rows are queries and inner rows are keys. The backward pass
 * uses both directions.
 *
 * Without a plan, the outer rows are cut into equal blocks, and every block loops over all inner rows. With a plan,
 * rows are *slots* of a sequence, `order` says which token lies in each slot, and each block loops over its own list of
 * runs of slots. So the work is proportional to the pairs that are kept.
 *
 * @module
 */
import { type Binding, type ParamType, read, u32s } from "../../kernel.ts";
import { chosenHead } from "../chosen_heads.ts";

/** Less than any score, but finite, so that exp of the difference of two of them is 1, not NaN. */
export const MASKED = "-1e30";

export interface LoopOptions {
  readonly plan: boolean;
  /** The number of outer rows that are held at once. */
  readonly rows: number;
}

/** WGSL pieces of such a loop. */
export interface AttentionLoop {
  readonly buffers: Readonly<Record<string, Binding>>;
  readonly params: Readonly<Record<string, ParamType>>;
  /**
   * Defines `first` and `last`, the outer rows to hold, `h`, the head, and `head`, the index of its first vec4 in a
   * token. Returns from the kernel where there are no such rows.
   *
   * @param part WGSL: index of the part of a block. A plan's blocks have `p.parts` parts, other blocks one
   */
  begin(part: string): string;
  /** The token of an outer row. Rows past the last repeat the last. */
  outer(row: string): string;
  /**
   * Loops over the inner rows in steps, run by run. `at` is the first row of a step; `end` is one past the last row
   * that the step may use.
   */
  steps(step: number, body: string): string;
  /** The token of an inner row. Rows from `end` on repeat the last row before it. */
  inner(row: string): string;
}

/** The offset from one head's order to the next, and from that of one kind to the next; 0 where all share them. */
export const ORDER_PARAMS = u32s("order_stride", "kind_order_stride");

/** WGSL: where the order of the head `h` begins. */
export const orderOf = (batch: string): string =>
  `((${batch} * p.heads + h) * p.order_stride + kind * p.kind_order_stride)`;

/** Builds the pieces for one kernel. */
export function attentionLoop({ plan, rows }: LoopOptions): AttentionLoop {
  const shared = {
    params: {
      /** tokens of a batch item on either side */
      ...u32s("outer", "inner"),
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
      ...ORDER_PARAMS,
      /** the offset from one head's runs to the next; 0 where all share them */
      runs_stride: "u32",
      /** blocks of each kind, and the parts of a block, which are held one after the other */
      ...u32s("block_count", "parts"),
    },
    begin: (part) =>
      `  if (${part} >= p.block_count * p.parts) { return; }
${shared.head}
  let block = blocks[kind * p.block_count + ${part} / p.parts];
  let before = (${part} % p.parts) * ${rows}u;
  if (before >= block.y) { return; }
  let first = block.x + before;
  let last = block.x + min(before + ${rows}u, block.y) - 1u;
  let own_order = ${orderOf("wid.z")};
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
