/**
 * Multi-head attention.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { attentionPlain, attentionTiled, PLAIN_ROWS, TILE } from "../kernels/attention.ts";
import type { Tensor } from "../tensor.ts";

/** What attention may be told besides its operands. */
export interface AttentionOptions {
  readonly heads: number;
  /** Multiplies q·k. Default 1 / √(head dim). */
  readonly scale?: number;
  /** [heads, queries, keys], f32: added to the scaled scores, the same for every batch item. */
  readonly bias?: Tensor;
  /** [batch], u32: only the first so many keys of a batch item take part; at least one. Default all. */
  readonly keyLengths?: Tensor;
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
  const { heads, bias, keyLengths } = options;
  const [batch, queries, dim] = q.shape as [number, number, number];
  const headDim = dim / heads, keys = k.dim(1);
  if (gpu.software ? headDim % 4 !== 0 : ![16, 32, 64, 128].includes(headDim)) {
    throw new Error(`attention: ${heads} heads of ${headDim}`);
  }
  const y = gpu.tensor(q.shape);
  const params = {
    queries,
    keys,
    dim4: dim / 4,
    scale: options.scale ?? 1 / Math.sqrt(headDim),
    has_lengths: keyLengths ? 1 : 0,
  };
  const buffers = { q, k, v, bias: bias ?? gpu.placeholder, key_lengths: keyLengths ?? gpu.placeholder, y };
  if (gpu.software) {
    const blocks = Math.ceil(queries / PLAIN_ROWS(headDim) / 8);
    gpu.run(attentionPlain({ headDim, bias: bias !== undefined }), {
      buffers,
      params,
      workgroups: [blocks, heads, batch],
    });
  } else {
    const blocks = Math.ceil(queries / TILE);
    gpu.run(attentionTiled({ headDim, bias: bias !== undefined, f16: gpu.f16 }), {
      buffers,
      params,
      workgroups: [blocks, heads, batch],
    });
  }
  return y;
}
