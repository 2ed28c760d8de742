import type { AttentionPlan, BlockList } from "../attention_plan.ts";
import type { Gpu } from "../gpu.ts";
import type { KernelSource } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { chosenHeads, type Heads } from "../kernels/chosen_heads.ts";

/** The number of heads, and the pairs of queries and keys that take part. */
export interface AttentionPattern extends Heads {
  /** The factor for q·k. Default: 1 / √(head dim). */
  readonly scale?: number;
  /** The plan of sparse self-attention. Default: every query attends to every key. */
  readonly plan?: AttentionPlan | undefined;
}

/** A kernel that loops by `loop.ts`, and its operands. */
export interface AttentionLaunch {
  readonly kernel: KernelSource;
  readonly pattern: AttentionPattern;
  /** The blocks of the plan, if there is one. */
  readonly list: BlockList | undefined;
  /** The number of outer rows that the kernel holds at once. */
  readonly rows: number;
  /** The largest number of slots of a plan's block. */
  readonly blockRows: number;
  /** [batch, tokens, heads · head dim] */
  readonly outer: Tensor;
  /** The number of inner rows of a batch item. */
  readonly inner: number;
  readonly buffers: Readonly<Record<string, Tensor>>;
  readonly params: Readonly<Record<string, number>>;
}

/** Records one kernel. */
export function launchAttention(gpu: Gpu, launch: AttentionLaunch): void {
  const { kernel, pattern, list, rows, blockRows, outer, inner, buffers, params } = launch;
  const { heads, scale, plan } = pattern, { chosen, head_ids, params: chosenParams } = chosenHeads(gpu, pattern);
  const [batch, tokens, dim] = outer.shape as [number, number, number];
  const parts = list ? Math.ceil(blockRows / rows) : 1;
  const held = list ? list.blocks.dim(-2) * parts : Math.ceil(tokens / rows);
  gpu.run(kernel, {
    buffers: {
      ...buffers,
      head_ids,
      ...plan && list && { order: plan.order, blocks: list.blocks, runs: list.runs },
    },
    params: {
      ...{ ...params, ...chosenParams },
      ...{ outer: tokens, inner, dim4: dim / 4, scale: scale ?? 1 / Math.sqrt(dim / heads) },
      ...plan && list && {
        ...orderStrides(plan),
        runs_stride: list.runs.dim(0) > 1 ? list.runs.dim(1) : 0,
        ...{ block_count: list.blocks.dim(-2), parts },
      },
    },
    workgroups: [gpu.kernels.plain ? Math.ceil(held / 8) : held, chosen, batch],
  });
}

/** What kernels take to find a head's order, see `orderOf`. */
export function orderStrides(plan: AttentionPlan | undefined) {
  const slots = plan && plan.order.dim(0) > 1 ? plan.order.dim(1) : 0;
  const byKind = plan?.queries.blocks.shape.length === 3;
  return { order_stride: byKind ? 0 : slots, kind_order_stride: byKind ? slots : 0 };
}

/**
 * The head dimension of q.
 *
 * @throws if no kernel of the device supports it
 */
export function headDimOf(gpu: Gpu, q: Tensor, heads: number): number {
  const headDim = q.dim(-1) / heads;
  if (attentionHeadDim(gpu, headDim) !== headDim) throw new Error(`attention: ${heads} heads of ${headDim}`);
  return headDim;
}

/** The smallest head dimension of at least `headDim` that a kernel of the device supports; undefined if there is none. */
export function attentionHeadDim(gpu: Gpu, headDim: number): number | undefined {
  return gpu.kernels.plain ? 4 * Math.ceil(headDim / 4) : [16, 32, 64, 128].find((dim) => dim >= headDim);
}
