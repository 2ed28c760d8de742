import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";
import { attention } from "./attention.ts";
import { attentionHeadDim } from "./attention_launch.ts";

/** Makes every weight 0, but is finite, so that sums with scores are. */
const HIDDEN = "-1e9";

const MASK = perElement({
  name: "causal_mask",
  buffers: { y: write("f32") },
  params: { tokens: "u32" },
  body: `  y[i] = select(0.0, ${HIDDEN}, i % p.tokens > (i / p.tokens) % p.tokens);`,
});

/**
 * The `mask` of {@link encoderAttention}, which all blocks of an encoder share.
 *
 * @returns [heads, tokens, tokens], f32: 0 where a query sees a key
 */
export function causalMask(gpu: Gpu, heads: number, tokens: number): Tensor {
  const y = gpu.tensor([heads, tokens, tokens], "f32", "the causal mask of the text encoder");
  return runPerElement(gpu, MASK, { y }, { tokens });
}

/** The heads of a tensor [batch, tokens, count · dim]. */
interface HeadsOf {
  readonly count: number;
  readonly dim: number;
}

const HEADS = perElement({
  name: "with_heads",
  buffers: { x: read("f32"), y: write("f32") },
  params: u32s("from_count", "from_dim", "to_count", "to_dim"),
  body: `  let channel = i % p.to_dim;
  let head = (i / p.to_dim) % p.to_count * p.from_count / p.to_count;
  let token = i / (p.to_dim * p.to_count);
  let at = (token * p.from_count + head) * p.from_dim + min(channel, p.from_dim - 1u);
  y[i] = select(0.0, x[at], channel < p.from_dim);`,
});

/** Repeats each head as often as `to` needs, and fills its channels up with zeros, or cuts them. */
function withHeads(gpu: Gpu, x: Tensor, from: HeadsOf, to: HeadsOf): Tensor {
  if (from.count === to.count && from.dim === to.dim) return x;
  if (to.count % from.count !== 0) throw new Error(`${from.count} heads cannot be shared by ${to.count}`);
  return runPerElement(gpu, HEADS, { x, y: gpu.tensor([x.dim(0), x.dim(1), to.count * to.dim]) }, {
    ...{ from_count: from.count, from_dim: from.dim, to_count: to.count, to_dim: to.dim },
  });
}

/** Options of {@link encoderAttention}. */
export interface EncoderAttentionOptions {
  readonly heads: number;
  /** Heads of keys and values, each shared by as many neighbouring heads of queries. Default: `heads` */
  readonly keyHeads?: number;
  /** See {@link causalMask}. Default: a token sees all others */
  readonly mask?: Tensor | undefined;
  /** [batch], u32: the number of keys of each batch item that take part, at least one. Default: all */
  readonly keyLengths?: Tensor;
}

/**
 * Attention with the scale 1 / √(head dim), whose heads may have any dimension up to 128. With a mask a token sees itself
 * and those before it.
 *
 * @param q [batch, tokens, heads · head dim], f32
 * @param k [batch, tokens, key heads · head dim], f32
 * @param v [batch, tokens, key heads · head dim], f32
 * @returns the shape of q
 */
export function encoderAttention(gpu: Gpu, q: Tensor, k: Tensor, v: Tensor, options: EncoderAttentionOptions): Tensor {
  const { heads, keyHeads = heads, mask, keyLengths } = options, dim = q.dim(-1) / heads;
  const queries = { count: heads, dim }, keys = { count: keyHeads, dim };
  const all = { count: heads, dim: attentionHeadDim(gpu, dim) ?? dim };
  return gpu.scope(() => {
    const [wideQ, wideK, wideV] = [withHeads(gpu, q, queries, all), ...[k, v].map((x) => withHeads(gpu, x, keys, all))];
    const y = attention(gpu, wideQ!, wideK!, wideV!, {
      ...{ heads, scale: 1 / Math.sqrt(dim) },
      ...mask && { bias: mask },
      ...keyLengths && { keyLengths },
    });
    return withHeads(gpu, y, all, queries);
  });
}
