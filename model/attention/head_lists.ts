/**
 * Attention for some of the heads, where the others use another kind.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { TokenLayout } from "./layout.ts";
import type { AttentionTask, SelfAttention } from "./method.ts";
import { attentionOutput } from "./output.ts";

/**
 * Self-attention for some heads of a layer, written to `into`, [batch, tokens, heads · head dim]. Other heads are not
 * written.
 */
export type SomeHeads = (q: Tensor, k: Tensor, v: Tensor, layer: number, into: Tensor) => void;

/** Every head of every layer. */
export function everyHead({ layers, heads }: { layers: number; heads: number }): number[][] {
  return Array.from({ length: layers }, () => Array.from({ length: heads }, (_, head) => head));
}

/** Makes attention of all heads from a function that can compute some of them. */
export function wholeAttention(gpu: Gpu, layout: TokenLayout, some: SomeHeads): SelfAttention {
  return (q, k, v, layer) =>
    gpu.scope(() => {
      const into = attentionOutput(gpu, q, layout);
      some(q, k, v, layer, into);
      return into;
    });
}

/** A kind of attention that can compute only some of the heads. */
export interface SomeHeadsMethod {
  /** As `AttentionMethod.prepare`. */
  prepare(task: AttentionTask): Promise<PreparedSomeHeads>;
}

/** The same, prepared for one clip. It holds GPU memory until it is disposed of. */
export interface PreparedSomeHeads extends Disposable {
  /**
   * Returns the attention for a forward pass of one step. What it uploads belongs to the enclosing scope.
   *
   * @param pass an index into the task's lengths
   * @param heads the heads to compute, for each layer
   */
  at(step: number, pass: number, heads: readonly (readonly number[])[]): SomeHeads;
  /** The number of pairs of queries and keys that one head multiplies. */
  pairs(step: number, pass: number, layer: number, head: number): number;
}

/**
 * Uploads lists of heads, for ops that take `only`. They belong to the enclosing scope.
 *
 * @returns for each list [n], u32; undefined where it is empty
 */
export function uploadHeadLists(gpu: Gpu, lists: readonly (readonly number[])[]): (Tensor | undefined)[] {
  // Each list starts at an offset that can be bound.
  const width = Math.ceil(Math.max(1, ...lists.map((list) => list.length)) / 64) * 64;
  const ids = new Uint32Array(lists.length * width);
  for (const [i, list] of lists.entries()) ids.set(list, i * width);
  const rows = gpu.upload(ids, [lists.length, width], "u32");
  return lists.map(({ length }, i) => length > 0 ? rows.rows(i, 1).reshape([width]).rows(0, length) : undefined);
}
