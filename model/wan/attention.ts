import type { Gpu } from "../../gpu/gpu.ts";
import { attention, heldKeys, overQueries, packedOutput, takesHalves } from "../../gpu/ops/attention.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { isIn, type Operand } from "../../gpu/ops/packed_operand.ts";
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

/**
 * Queries, keys and values: [batch, tokens or keys, heads · head dim], after norm and RoPE; f32, or values in f16. The
 * gate is as queries.
 */
export type Projected =
  | readonly [q: Tensor, k: Tensor, v: Tensor]
  | readonly [q: Tensor, k: Tensor, v: Tensor, gate: Tensor];

/**
 * The first half of self-attention: projections, norms across heads, rotary embedding.
 *
 * @param x [batch, tokens, dim]
 * @param options `gate`: whether to compute the gate, where the layer has one; `halves`: whether attention may be given
 * values in f16, if it rounds them to that
 */
export function project(
  gpu: Gpu,
  w: AttentionWeights,
  config: TransformerConfig,
  x: Operand,
  { rope, gate = false, halves = false }: {
    readonly rope: Rope;
    readonly gate?: boolean;
    readonly halves?: boolean;
  },
): Projected {
  return gpu.scope(() => {
    const shared = w.toQ.share(gpu, x), rounds = halves && takesHalves(gpu, config.dim, config.heads);
    const layers = [{ to: w.toQ }, { to: w.toK }, { to: w.toV, halves: rounds }];
    const [ofQ, ofK, v] = Linear.applyAll(gpu, shared, layers) as [Tensor, Tensor, Tensor];
    const q = normed(gpu, ofQ, w.normQ, config, rope), k = normed(gpu, ofK, w.normK, config, rope);
    return gate && w.toGate ? [q, k, v, w.toGate.apply(gpu, shared)] as const : [q, k, v] as const;
  });
}

/** The queries of x: [batch, tokens, dim]. */
export function queries(gpu: Gpu, w: AttentionWeights, config: TransformerConfig, x: Operand, rope?: Rope): Tensor {
  return gpu.scope(() => normed(gpu, w.toQ.apply(gpu, x), w.normQ, config, rope));
}

/** The norm of queries or keys that nothing else reads, in their place. A backward pass needs them. */
function normed(gpu: Gpu, x: Tensor, weight: Tensor, { eps }: TransformerConfig, rope?: Rope): Tensor {
  return rmsNorm(gpu, x, weight, eps, { rope, ...!gpu.tape && { into: x } });
}

/**
 * The second half of self-attention: attention, and the output's projection.
 *
 * @param projected is taken over: queries are written over, and all is freed before the output is made, so that few
 * tensors are in memory at once
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
  among = (q: Tensor, k: Tensor, v: Tensor, _gate?: Tensor): Operand =>
    attention(gpu, q, k, v, { heads, into: replacing(gpu, q, heads, w) }),
): Tensor {
  return gpu.scope(() => {
    const [q, k, v, gate]: readonly [Tensor, Tensor, Tensor, Tensor?] = projected;
    const y = among(q, k, v, gate);
    for (const tensor of projected) if (!isIn(tensor.buffer, y)) gpu.release(tensor);
    return w.toOut.applyLast(gpu, y, output);
  });
}

/** Where attention's output goes if nothing else reads q: packed for its projection, or over q. Default: to a new tensor */
function replacing(gpu: Gpu, q: Tensor, heads: number, { toOut }: AttentionWeights): Operand | undefined {
  if (gpu.tape) return undefined;
  return packedOutput(gpu, q, heads, toOut.weight) ?? overQueries(gpu, q);
}

/** What cross-attention attends to. */
export interface Context {
  /** [batch, text tokens, dim] */
  readonly text: Tensor;
  /** The number of text tokens that are the prompt's. The others are equal. Default: all */
  readonly textLength?: number | undefined;
  /** [batch, image tokens, dim], where the model sees pictures as tokens */
  readonly image?: Tensor | undefined;
  /** Returns tensors of that name that were made in an earlier step, or makes them. Default: makes them */
  readonly keep?: <T extends readonly Tensor[]>(name: string, make: () => T) => T;
}

/**
 * Attention of queries to the text and, apart from it, to image tokens: the sum of both.
 *
 * @param q [batch, tokens, dim], after the norm; it may be written over
 * @param layer the block's index
 * @returns [batch, tokens, dim], as the output's projection reads it fastest, or in the place of q
 */
export function attendToContext(
  gpu: Gpu,
  w: AttentionWeights,
  config: TransformerConfig,
  q: Tensor,
  context: Context,
  layer: number,
): Operand {
  const { heads } = config, { image, keep = (_name, make) => make() } = context, ofImage = w.image;
  // The keys and values of tokens that are equal are equal, so one stands for them. It has no gradient of its own.
  const { text, lastKeys } = gpu.tape ? { text: context.text, lastKeys: 1 } : distinct(context);
  const keys = () => keep(`text keys of ${layer}`, () => keysOf(gpu, w, config, text));
  if (!image || !ofImage) {
    const into = replacing(gpu, q, heads, w);
    if (!into) return gpu.scope(() => attention(gpu, q, ...keys(), { heads, lastKeys }));
    gpu.scope(() => void attention(gpu, q, ...keys(), { heads, lastKeys, into }));
    return into;
  }
  return gpu.scope(() => {
    const seen = gpu.scope(() => {
      const [k, v] = keep(`image keys of ${layer}`, () => keysOf(gpu, ofImage, config, image));
      return attention(gpu, q, k, v, { heads });
    });
    const into = overQueries(gpu, q), ofText = gpu.scope(() => attention(gpu, q, ...keys(), { heads, lastKeys, into }));
    return combine(gpu, [[1, ofText], [1, seen]]);
  });
}

/** Keys and values, as attention holds them. */
function keysOf(
  gpu: Gpu,
  { toK, toV, normK }: Pick<AttentionWeights, "toK" | "toV" | "normK">,
  { heads, eps }: TransformerConfig,
  x: Tensor,
): readonly [k: Tensor, v: Tensor] {
  return gpu.scope(() => {
    const shared = toK.share(gpu, x);
    const k = gpu.scope(() => heldKeys(gpu, rmsNorm(gpu, toK.apply(gpu, shared), normK, eps), heads));
    return [k, gpu.scope(() => heldKeys(gpu, toV.apply(gpu, shared), heads))] as const;
  });
}

/** The tokens of a text up to the first of those that are equal, and how many it stands for. */
function distinct({ text, textLength }: Context): { readonly text: Tensor; readonly lastKeys: number } {
  const [batch, tokens, dim] = text.shape as [number, number, number], count = (textLength ?? tokens) + 1;
  if (batch > 1 || count >= tokens) return { text, lastKeys: 1 };
  return { text: text.reshape([tokens, dim]).rows(0, count).reshape([1, count, dim]), lastKeys: tokens - count + 1 };
}
