/**
 * Multi-head attention, dense or by a plan, and its way back.
 *
 * @module
 */
import type { AttentionPlan, BlockList } from "../attention_plan.ts";
import type { Gpu } from "../gpu.ts";
import type { KernelSource } from "../kernel.ts";
import { attentionBackwardPlain, attentionBackwardTiled, PLAIN_BACKWARD_ROWS } from "../kernels/attention/backward.ts";
import { attentionPlain, PLAIN_ROWS } from "../kernels/attention/plain.ts";
import { attentionTiled } from "../kernels/attention/tiled.ts";
import { TILE } from "../kernels/attention/tiles.ts";
import type { Tensor } from "../tensor.ts";
import { fill } from "./elementwise.ts";
import { headDots } from "./head_dots.ts";

/** How heads lie, and which pairs take part. */
export interface AttentionPattern {
  readonly heads: number;
  /** Multiplies q·k. Default 1 / √(head dim). */
  readonly scale?: number;
  /** Self-attention over what the plan keeps. Default: every query sees every key. */
  readonly plan?: AttentionPlan;
  /** [n], u32: the heads to compute; what belongs to others is left as it is. Default all. */
  readonly only?: Tensor | undefined;
}

/** What attention may be told besides its operands. */
export interface AttentionOptions extends AttentionPattern {
  /** [heads, queries, keys], f32: added to the scaled scores, the same for every batch item. Not with a plan. */
  readonly bias?: Tensor;
  /** [batch], u32: only the first so many keys of a batch item take part; at least one. Default all. Not with a plan. */
  readonly keyLengths?: Tensor;
  /** Written instead of a new tensor; [batch, queries, heads · head dim], f32. Queries outside the plan are left as they are. */
  readonly into?: Tensor;
  /** [batch, queries, heads], f32: receives each query's log Σ exp(score), which the way back needs. */
  readonly lse?: Tensor;
}

/**
 * softmax(scale · q·kᵀ + bias)·v for each head.
 *
 * @param q [batch, queries, heads · head dim], f32; head dim a multiple of 4, on GPUs 16, 32, 64 or 128
 * @param k [batch, keys, heads · head dim], f32
 * @param v [batch, keys, heads · head dim], f32
 * @returns [batch, queries, heads · head dim], f32
 */
export function attention(gpu: Gpu, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { heads, plan, bias, keyLengths } = options;
  const headDim = headDimOf(gpu, q, heads);
  if (plan && (bias || keyLengths)) throw new Error("attention: a plan takes neither bias nor key lengths");
  const y = options.into ?? gpu.tensor(q.shape);
  const lse = options.lse ?? (gpu.tape ? gpu.tensor([q.dim(0), q.dim(1), heads]) : undefined);
  const variant = { headDim, bias: bias !== undefined, plan: plan !== undefined, lse: lse !== undefined };
  launch(
    gpu,
    gpu.software ? attentionPlain(variant) : attentionTiled({ ...variant, f16: gpu.f16 }),
    gpu.software ? PLAIN_ROWS(headDim) : TILE,
    options,
    plan?.queries,
    { outer: q, inner: k },
    { q, k, v, ...bias && { bias }, key_lengths: keyLengths ?? gpu.placeholder, y, ...lse && { lse } },
    { has_lengths: keyLengths ? 1 : 0 },
  );
  if (gpu.tape && !options.into) {
    if (bias || keyLengths) throw new Error("attention: there is no way back through a bias or key lengths");
    gpu.tape.record(y, [q, k, v], (dy, wanted) => {
      const gradient = (of: Tensor, needed: boolean | undefined) => needed ? zeros(gpu, of) : undefined;
      const dq = gradient(q, wanted[0]);
      const both = wanted[1] || wanted[2];
      const dk = gradient(k, both), dv = gradient(v, both);
      const dotY = headDots(gpu, dy, y, heads);
      attentionBackward(gpu, { q, k, v, dy, lse: lse!, dotY }, { dq, dk, dv }, options);
      return [dq, dk, dv];
    });
  }
  return y;
}

/** What the way back through attention starts from. */
export interface AttentionBackwardInput {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  /** Gradient of the output, as it is shaped. */
  readonly dy: Tensor;
  /** [batch, queries, heads], f32: of the forward pass */
  readonly lse: Tensor;
  /** [batch, queries, heads], f32: Σ dy·y over a head's channels, see `headDots` */
  readonly dotY: Tensor;
}

/** Gradients to add to, each shaped as what it belongs to; dk and dv come together. */
export interface AttentionGradients {
  readonly dq: Tensor | undefined;
  readonly dk: Tensor | undefined;
  readonly dv: Tensor | undefined;
}

/**
 * Adds the gradients of q, k, v to `into`.
 *
 * @param headScale [batch, heads], f32: what each head's gradients are multiplied with. Default 1.
 */
export function attentionBackward(
  gpu: Gpu,
  { q, k, v, dy, lse, dotY }: AttentionBackwardInput,
  into: AttentionGradients,
  pattern: AttentionPattern,
  headScale?: Tensor,
): void {
  const { heads, plan } = pattern;
  const headDim = headDimOf(gpu, q, heads);
  const variant = { headDim, plan: plan !== undefined };
  const kernel = gpu.software ? attentionBackwardPlain : attentionBackwardTiled;
  const rows = gpu.software ? PLAIN_BACKWARD_ROWS(headDim) : TILE;
  const buffers = {
    ...{ q, k, v, dy, lse, dot_y: dotY, head_scale: headScale ?? gpu.placeholder },
    key_lengths: gpu.placeholder,
  };
  const params = { has_head_scale: headScale ? 1 : 0, has_lengths: 0 };
  const { dq, dk, dv } = into;
  if (dq) {
    const sides = { outer: q, inner: k };
    launch(gpu, kernel({ ...variant, of: "q" }), rows, pattern, plan?.queries, sides, { ...buffers, dq }, params);
  }
  if (dk && dv) {
    if (plan && !plan.keys) throw new Error("attention: this plan has no way back");
    const sides = { outer: k, inner: q };
    launch(gpu, kernel({ ...variant, of: "kv" }), rows, pattern, plan?.keys, sides, { ...buffers, dk, dv }, params);
  }
}

/** Records a kernel that walks by `walk.ts`. */
function launch(
  gpu: Gpu,
  kernel: KernelSource,
  rows: number,
  { heads, scale, plan, only }: AttentionPattern,
  list: BlockList | undefined,
  { outer, inner }: { outer: Tensor; inner: Tensor },
  buffers: Readonly<Record<string, Tensor>>,
  params: Readonly<Record<string, number>>,
): void {
  const [batch, tokens, dim] = outer.shape as [number, number, number];
  const blocks = list ? list.blocks.dim(0) : Math.ceil(tokens / rows);
  gpu.run(kernel, {
    buffers: {
      ...buffers,
      head_ids: only ?? gpu.placeholder,
      ...plan && list && { order: plan.order, blocks: list.blocks, runs: list.runs },
    },
    params: {
      ...params,
      outer: tokens,
      inner: inner.dim(1),
      heads,
      dim4: dim / 4,
      scale: scale ?? 1 / Math.sqrt(dim / heads),
      has_heads: only ? 1 : 0,
      ...plan && list && {
        order_stride: plan.order.dim(0) > 1 ? plan.order.dim(1) : 0,
        runs_stride: list.runs.dim(0) > 1 ? list.runs.dim(1) : 0,
        block_count: blocks,
      },
    },
    workgroups: [gpu.software ? Math.ceil(blocks / 8) : blocks, only?.dim(0) ?? heads, batch],
  });
}

function headDimOf(gpu: Gpu, q: Tensor, heads: number): number {
  const headDim = q.dim(-1) / heads;
  if (gpu.software ? headDim % 4 !== 0 : ![16, 32, 64, 128].includes(headDim)) {
    throw new Error(`attention: ${heads} heads of ${headDim}`);
  }
  return headDim;
}

function zeros(gpu: Gpu, like: Tensor): Tensor {
  const tensor = gpu.tensor(like.shape);
  fill(gpu, tensor, 0);
  return tensor;
}
