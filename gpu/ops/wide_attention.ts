import type { Gpu } from "../gpu.ts";
import type { Tensor } from "../tensor.ts";
import { fill } from "./elementwise.ts";
import { linear } from "./linear.ts";
import { softmaxInPlace } from "./softmax.ts";

/** Scores of so many bytes are held at once. */
const SCORE_BYTES = 2 ** 26;
/** Queries are taken in multiples of this, so that every part starts where a buffer can be bound. */
const QUERY_GRAIN = 64;

/**
 * What the weights of a query add up to where f16 holds them. Of many pixels each weighs less than f16's least normal
 * number, below which a GPU may take it for 0. With this factor, sums stay below 65504 if no value exceeds 1000.
 */
const F16_FACTOR = 64;

/** The operands of {@link wideAttention}. */
export interface WideAttentionInput {
  /** [queries, channels], f32, scaled */
  readonly q: Tensor;
  /** [keys, channels], f32; keys a multiple of 4 */
  readonly k: Tensor;
  /** [channels, keys], f32: values without their bias */
  readonly v: Tensor;
  /** [channels], f32: the values' bias. The weights of a query add up to 1, so it can be added last. */
  readonly bias: Tensor | undefined;
  /** How many of the keys count. The others must be finite. */
  readonly keys: number;
  /** [queries, channels], f32: where the result is written */
  readonly into: Tensor;
}

/** Attention with a single head that is too wide for the attention kernels: softmax(q·kᵀ)·v, through scores in memory. */
export function wideAttention(gpu: Gpu, { q, k, v, bias, keys, into }: WideAttentionInput): void {
  const queries = q.dim(0), width = k.dim(0);
  const factor = gpu.f16 ? F16_FACTOR : 1, scale = factor === 1 ? undefined : gpu.tensor([v.dim(0)]);
  if (scale) fill(gpu, scale, 1 / factor);
  const step = Math.max(1, Math.floor(SCORE_BYTES / (width * 4) / QUERY_GRAIN)) * QUERY_GRAIN;
  for (let start = 0; start < queries; start += step) {
    const count = Math.min(step, queries - start);
    const scores = linear(gpu, q.rows(start, count), k);
    softmaxInPlace(gpu, scores, keys, factor);
    linear(gpu, scores, v, { bias, scale, into: into.rows(start, count) });
    gpu.release(scores);
  }
  if (scale) gpu.release(scale);
}
