import { overQueries, packedOutput } from "../../gpu/ops/attention.ts";
import type { Operand } from "../../gpu/ops/packed_operand.ts";
import { hasPadding, type HeadShape, type TokenLayout } from "./layout.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { headOfKind } from "../../gpu/kernels/chosen_heads.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AttentionTask, SelfAttention } from "./method.ts";
import { attentionOutput } from "./output.ts";

/**
 * Self-attention for some heads of a layer, written to `into`, [batch, tokens, heads · head dim], and no others. `into`
 * may be q itself, or where no token is padding, a `packedOutput`.
 */
export type SomeHeads<Into extends Operand = Operand> = (
  q: Tensor,
  k: Tensor,
  v: Tensor,
  layer: number,
  into: Into,
) => void;

/** Every head of every layer. */
export function everyHead({ layers, heads }: { layers: number; heads: number }): number[][] {
  return Array.from({ length: layers }, () => Array.from({ length: heads }, (_, head) => head));
}

/**
 * Makes attention of all heads from a function that can compute some of them.
 *
 * @param heads their number, where the result may be packed. Default: it is not
 */
export function wholeAttention(gpu: Gpu, layout: TokenLayout, some: SomeHeads<Tensor>): SelfAttention;
export function wholeAttention(gpu: Gpu, layout: TokenLayout, some: SomeHeads, heads: number): SelfAttention;
export function wholeAttention(
  gpu: Gpu,
  layout: TokenLayout,
  some: SomeHeads<never>,
  heads?: number,
): SelfAttention {
  const whole: SelfAttention = (q, k, v, layer) =>
    gpu.scope(() => {
      const into = attentionOutput(gpu, q, layout);
      some(q, k, v, layer, into as never);
      return into;
    });
  return Object.assign(whole, {
    consuming: (q: Tensor, k: Tensor, v: Tensor, layer: number, next?: Operand): Operand => {
      const packs = heads !== undefined && next !== undefined && !hasPadding(layout);
      const into = (packs ? packedOutput(gpu, q, heads, next) : undefined) ??
        attentionOutput(gpu, q, layout, overQueries(gpu, q));
      gpu.scope(() => some(q, k, v, layer, into as never));
      return into;
    },
  });
}

/** The same for attention that reads q after it wrote its output, and v in f32: it consumes nothing. */
export const withoutConsuming = (attend: SelfAttention): SelfAttention => (...operands) => attend(...operands);

/** A kind of attention that can compute only some of the heads, while the others use another kind. */
export interface SomeHeadsMethod {
  /** As `AttentionMethod.check`. */
  check?(shape: HeadShape): void;
  /** As `AttentionMethod.prepare`. */
  prepare(task: AttentionTask): Promise<PreparedSomeHeads>;
}

/** The same, prepared for one clip. It holds GPU memory until it is disposed of. */
export interface PreparedSomeHeads extends Disposable {
  /** As `PreparedAttention.unobserved`. */
  readonly unobserved?: boolean;
  /** Whether its output may be neither q nor packed, and v is in f32; see {@link withoutConsuming}. Default: no */
  readonly keepsInputs?: boolean;
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

/** The most bytes that keys and values in f16 should take at once. */
const PACKED_BYTES = 512 * 2 ** 20;

/**
 * How many heads are computed at once. Attention packs keys and values of so many; of all of them, they could take as
 * much memory as a tensor of the tokens.
 */
export function headsAtOnce(
  { f16 }: Pick<Gpu, "f16">,
  { heads, headDim }: Pick<HeadShape, "heads" | "headDim">,
  tokens: number,
  bytes = PACKED_BYTES,
): number {
  if (!f16) return heads;
  const most = Math.max(1, Math.floor(bytes / (4 * tokens * headDim)));
  return Math.ceil(heads / Math.ceil(heads / most));
}

/** The bytes of keys and values that {@link headsAtOnce} lets attention pack. */
export function packedKeysBytes(gpu: Pick<Gpu, "f16">, shape: HeadShape, tokens: number): number {
  return gpu.f16 ? headsAtOnce(gpu, shape, tokens) * 4 * tokens * shape.headDim : 0;
}

/** A list in parts of at most so many. */
const inParts = (list: readonly number[], most: number): (readonly number[])[] =>
  Array.from({ length: Math.ceil(list.length / most) }, (_, i) => list.slice(i * most, (i + 1) * most));

/** Heads of a layer that are computed together. */
export interface HeadGroup<T> {
  /** Their common value. */
  readonly of: T;
  /** In the order in which they are computed. */
  readonly heads: readonly number[];
  /** [heads], u32: for ops that compute some heads */
  readonly only: Tensor;
}

/**
 * Groups the heads of each layer, and uploads the groups. Their tensors belong to the enclosing scope.
 *
 * @param heads the heads of each layer, in the order in which they are to be computed
 * @param most groups of more heads become several
 * @param kindOf the number of a head's kind in the tables of its group (see `headOfKind`). Default: 0
 */
export function groupHeads<T>(
  gpu: Gpu,
  heads: readonly (readonly number[])[],
  groupOf: (layer: number, head: number) => T,
  most = Infinity,
  kindOf: (layer: number, head: number) => number = () => 0,
): HeadGroup<T>[][] {
  const layers = heads.map((list, layer) =>
    [...Map.groupBy(list, (head) => groupOf(layer, head))]
      .flatMap(([of, heads]) => inParts(heads, Math.min(most, heads.length)).map((part) => [of, part] as const))
  );
  const lists = layers.flatMap((groups, layer) =>
    groups.map(([, list]) => list.map((head) => headOfKind(head, kindOf(layer, head))))
  );
  // Each list starts at an offset that can be bound.
  const width = Math.ceil(Math.max(1, ...lists.map((list) => list.length)) / 64) * 64;
  const ids = new Uint32Array(Math.max(1, lists.length) * width);
  for (const [i, list] of lists.entries()) ids.set(list, i * width);
  const rows = gpu.upload(ids, [ids.length / width, width], "u32");
  let at = 0;
  return layers.map((groups) =>
    groups.map(([of, heads]) => {
      const only = rows.rows(at++, 1).reshape([width]).rows(0, heads.length);
      return { of, heads, only };
    })
  );
}
