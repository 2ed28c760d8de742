/**
 * The attention layers of a block: projections, norms across heads, rotary embedding, attention.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import type { Operand } from "../../gpu/ops/blocks.ts";
import { linear, type LinearOptions, sharedInput } from "../../gpu/ops/linear.ts";
import { rmsNorm, type Rope } from "../../gpu/ops/rms_norm.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Weights } from "../weights.ts";
import type { TransformerConfig } from "./config.ts";
import { type Linear, loadLinear } from "./linear.ts";

/** Weights of one attention layer. */
export interface AttentionWeights {
  readonly toQ: Linear;
  readonly toK: Linear;
  readonly toV: Linear;
  readonly toOut: Linear;
  /** [dim] */
  readonly normQ: Tensor;
  readonly normK: Tensor;
}

/** Loads `attn1` or `attn2` of a block. */
export async function loadAttention(weights: Weights, dim: number): Promise<AttentionWeights> {
  return {
    toQ: await loadLinear(weights, "to_q", dim, dim),
    toK: await loadLinear(weights, "to_k", dim, dim),
    toV: await loadLinear(weights, "to_v", dim, dim),
    toOut: await loadLinear(weights, "to_out.0", dim, dim),
    normQ: await weights.vector("norm_q.weight", [dim]),
    normK: await weights.vector("norm_k.weight", [dim]),
  };
}

/** Queries, keys and values: [batch, tokens or keys, heads · head dim], after norm and RoPE. */
export type Projected = readonly [q: Tensor, k: Tensor, v: Tensor];

/**
 * The first half of an attention layer.
 *
 * @param x [batch, tokens, dim]: the source of queries
 * @param context [batch, keys, dim]: the source of keys and values; x itself in self-attention
 * @param rope rotates queries and keys; self-attention only
 */
export function project(
  gpu: Gpu,
  w: AttentionWeights,
  { eps }: TransformerConfig,
  x: Operand,
  context: Operand,
  rope?: Rope,
): Projected {
  return gpu.scope(() => {
    const ofQueries = sharedInput(gpu, x, w.toQ.weight);
    const ofKeys = context === x ? ofQueries : sharedInput(gpu, context, w.toK.weight);
    const q = gpu.scope(() => rmsNorm(gpu, linear(gpu, ofQueries, w.toQ.weight, w.toQ), w.normQ, eps, rope));
    const k = gpu.scope(() => rmsNorm(gpu, linear(gpu, ofKeys, w.toK.weight, w.toK), w.normK, eps, rope));
    return [q, k, linear(gpu, ofKeys, w.toV.weight, w.toV)] as const;
  });
}

/**
 * The second half: attention, and the output's projection.
 *
 * @param projected is taken over: it is freed before the output is made, so that few tensors are in memory at once
 * @param output the operations that are fused with the output's projection
 * @param among the self-attention to use instead of full attention
 * @returns [batch, tokens, dim]
 */
export function attend(
  gpu: Gpu,
  w: AttentionWeights,
  { heads }: TransformerConfig,
  projected: Projected,
  output: LinearOptions,
  among = (q: Tensor, k: Tensor, v: Tensor): Tensor => attention(gpu, q, k, v, { heads }),
): Tensor {
  return gpu.scope(() => {
    const y = among(...projected);
    for (const tensor of projected) if (tensor.buffer !== y.buffer) gpu.release(tensor);
    return linear(gpu, y, w.toOut.weight, { bias: w.toOut.bias, ...output });
  });
}
