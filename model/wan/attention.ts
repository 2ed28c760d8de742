import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { combine } from "../../gpu/ops/combine.ts";
import type { Operand } from "../../gpu/ops/packed_operand.ts";
import { rmsNorm, type Rope } from "../../gpu/ops/rms_norm.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { Linear, type LinearApplyOptions } from "../layers/linear.ts";
import type { Weights } from "../weights/weights.ts";
import type { TransformerConfig } from "./config.ts";

/** The weights that make keys and values of image tokens, in cross-attention. */
export interface ImageKeyWeights {
  readonly toK: Linear;
  readonly toV: Linear;
  /** [dim] */
  readonly normK: Tensor;
}

/** Weights of one attention layer. */
export interface AttentionWeights {
  readonly toQ: Linear;
  readonly toK: Linear;
  readonly toV: Linear;
  readonly toOut: Linear;
  /** Of self-attention, where the model has it. */
  readonly toGate?: Linear | undefined;
  /** [dim] */
  readonly normQ: Tensor;
  readonly normK: Tensor;
  /** Of cross-attention, where the model sees pictures as tokens. */
  readonly image?: ImageKeyWeights | undefined;
}

/**
 * Loads `attn1` or `attn2` of a block.
 *
 * @param gated whether it has a gate
 */
export async function loadAttention(weights: Weights, dim: number, gated = false): Promise<AttentionWeights> {
  return {
    toQ: await Linear.load(weights, "to_q", dim, dim),
    toK: await Linear.load(weights, "to_k", dim, dim),
    toV: await Linear.load(weights, "to_v", dim, dim),
    toOut: await Linear.load(weights, "to_out.0", dim, dim),
    toGate: gated ? await Linear.load(weights, "to_gate_compress", dim, dim) : undefined,
    normQ: await weights.vector("norm_q.weight", [dim]),
    normK: await weights.vector("norm_k.weight", [dim]),
  };
}

/** Loads what `attn2` of a block has for image tokens. */
export async function loadImageKeys(weights: Weights, dim: number): Promise<ImageKeyWeights> {
  return {
    toK: await Linear.load(weights, "add_k_proj", dim, dim),
    toV: await Linear.load(weights, "add_v_proj", dim, dim),
    normK: await weights.vector("norm_added_k.weight", [dim]),
  };
}

/** Queries, keys and values: [batch, tokens or keys, heads · head dim], after norm and RoPE. The gate is as queries. */
export type Projected =
  | readonly [q: Tensor, k: Tensor, v: Tensor]
  | readonly [q: Tensor, k: Tensor, v: Tensor, gate: Tensor];

/**
 * The first half of an attention layer: projections, norms across heads, rotary embedding.
 *
 * @param x [batch, tokens, dim]: the source of queries
 * @param context [batch, keys, dim]: the source of keys and values; x itself in self-attention
 * @param options `rope`: rotates queries and keys; self-attention only. `gate`: whether to compute the gate, where the
 * layer has one
 */
export function project(
  gpu: Gpu,
  w: AttentionWeights,
  { eps }: TransformerConfig,
  x: Operand,
  context: Operand,
  { rope, gate = false }: { readonly rope?: Rope; readonly gate?: boolean } = {},
): Projected {
  return gpu.scope(() => {
    const ofQueries = w.toQ.share(gpu, x);
    const ofKeys = context === x ? ofQueries : w.toK.share(gpu, context);
    const q = gpu.scope(() => rmsNorm(gpu, w.toQ.apply(gpu, ofQueries), w.normQ, eps, { rope }));
    const k = gpu.scope(() => rmsNorm(gpu, w.toK.apply(gpu, ofKeys), w.normK, eps, { rope }));
    const v = w.toV.apply(gpu, ofKeys);
    return gate && w.toGate ? [q, k, v, w.toGate.apply(gpu, ofQueries)] as const : [q, k, v] as const;
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
  output: LinearApplyOptions,
  among = (q: Tensor, k: Tensor, v: Tensor, _gate?: Tensor): Tensor => attention(gpu, q, k, v, { heads }),
): Tensor {
  return gpu.scope(() => {
    const [q, k, v, gate]: readonly [Tensor, Tensor, Tensor, Tensor?] = projected;
    const y = among(q, k, v, gate);
    for (const tensor of projected) if (tensor.buffer !== y.buffer) gpu.release(tensor);
    return w.toOut.apply(gpu, y, output);
  });
}

/** Attention of the same queries to the text and, apart from it, to image tokens: the sum of both. */
export function attendWithImage(
  gpu: Gpu,
  { toK, toV, normK }: ImageKeyWeights,
  { heads, eps }: TransformerConfig,
  image: Tensor,
): (q: Tensor, k: Tensor, v: Tensor) => Tensor {
  return (q, k, v) =>
    gpu.scope(() => {
      const shared = toK.share(gpu, image);
      const seen = gpu.scope(() => {
        const imageK = gpu.scope(() => rmsNorm(gpu, toK.apply(gpu, shared), normK, eps));
        return attention(gpu, q, imageK, toV.apply(gpu, shared), { heads });
      });
      return combine(gpu, [[1, attention(gpu, q, k, v, { heads })], [1, seen]]);
    });
}
