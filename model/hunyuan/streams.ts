/**
 * The streams of a block: the tokens of the video, and those of the text behind them.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { ModulationVector } from "../../gpu/ops/modulation.ts";
import type { Operand } from "../../gpu/ops/packed_operand.ts";
import { rmsNorm, type Rope } from "../../gpu/ops/rms_norm.ts";
import { attention, overQueries, takesHalves } from "../../gpu/ops/attention.ts";
import { Tensor } from "../../gpu/tensor.ts";
import type { SelfAttention } from "../attention/method.ts";
import type { CacheHooks } from "../cache/step_cache.ts";
import { Linear } from "../layers/linear.ts";
import type { Weights } from "../weights/weights.ts";
import type { TransformerConfig } from "./config.ts";

/** Of all norms. */
export const EPS = 1e-6;

/** The inputs that all blocks of a forward pass share. */
export interface BlockInputs {
  /** [1, dim]: SiLU of the embedding of timestep, guidance and pooled text */
  readonly conditioning: Tensor;
  /** The number of the video's tokens. */
  readonly video: number;
  /** Rotates the video's tokens. */
  readonly rope: Rope;
  /** Default: full attention to all tokens. */
  readonly selfAttention: SelfAttention | undefined;
  readonly cache?: CacheHooks | undefined;
}

/** Some of the tokens of [1, tokens, dim]: a view. */
export function tokensOf(x: Tensor, first: number, count: number): Tensor {
  const [, tokens, dim] = x.shape as [number, number, number];
  return x.reshape([tokens, dim]).rows(first, count).reshape([1, count, dim]);
}

/** What makes the shifts, scales and gates of adaptive layer norms. */
export class AdaptiveVectors {
  private constructor(private readonly linear: Linear, private readonly count: number) {}

  /** Loads `name`, which makes `count` vectors of `dim`. */
  static async load(weights: Weights, name: string, count: number, dim: number): Promise<AdaptiveVectors> {
    return new AdaptiveVectors(await Linear.load(weights, name, count * dim, dim), count);
  }

  /** @param conditioning [1, dim], after its activation */
  of(gpu: Gpu, conditioning: Tensor): (index: number) => ModulationVector {
    const tensor = this.linear.apply(gpu, conditioning).reshape([1, this.count, conditioning.dim(-1)]);
    return (index) => ({ tensor, index });
  }
}

/** The weights that make queries, keys and values of a stream. */
export interface ProjectionWeights {
  readonly toQ: Linear;
  readonly toK: Linear;
  readonly toV: Linear;
  /** [head dim] */
  readonly normQ: Tensor;
  readonly normK: Tensor;
}

/** The names of these weights, in the `attn` of a block. */
const NAMES = {
  video: { q: "to_q", k: "to_k", v: "to_v", normQ: "norm_q", normK: "norm_k" },
  text: { q: "add_q_proj", k: "add_k_proj", v: "add_v_proj", normQ: "norm_added_q", normK: "norm_added_k" },
} as const;

/** Loads the projections of a stream, or those that both share, which have the names of the video's. */
export async function loadProjections(
  weights: Weights,
  stream: keyof typeof NAMES,
  { dim, headDim }: TransformerConfig,
): Promise<ProjectionWeights> {
  const { q, k, v, normQ, normK } = NAMES[stream], attn = weights.scope("attn.");
  return {
    toQ: await Linear.load(attn, q, dim, dim),
    toK: await Linear.load(attn, k, dim, dim),
    toV: await Linear.load(attn, v, dim, dim),
    normQ: await attn.vector(`${normQ}.weight`, [headDim]),
    normK: await attn.vector(`${normK}.weight`, [headDim]),
  };
}

/** Queries, keys and values of all tokens: [1, tokens, heads · head dim], f32; or values in f16. */
export type Projected = readonly [q: Tensor, k: Tensor, v: Tensor];

/** What queries, keys and values of some tokens are made of. */
export interface ProjectedStream {
  readonly w: ProjectionWeights;
  /** [1, some tokens, dim]: the stream after its norm */
  readonly norm: Operand;
  /** The stream's tokens of a tensor of all tokens. */
  readonly of: (all: Tensor) => Tensor;
  /** Rotates the first tokens. */
  readonly rope?: Rope;
}

/**
 * Makes the queries, keys and values of all streams.
 *
 * @param shape of each of them
 * @param selfAttention the attention that takes them: some may be given values in f16, if it rounds them to that
 */
export function project(
  gpu: Gpu,
  { heads }: Pick<TransformerConfig, "heads">,
  shape: readonly number[],
  streams: readonly ProjectedStream[],
  selfAttention: SelfAttention | undefined,
): Projected {
  return gpu.scope(() => {
    const shared = streams.map(({ w, norm }) => w.toQ.share(gpu, norm));
    const normed = (layer: "toQ" | "toK", weight: "normQ" | "normK") =>
      gpu.scope(() => {
        // A backward pass needs them as they are before the norm.
        const plain = gpu.tensor(shape), y = gpu.tape ? gpu.tensor(shape) : plain;
        for (const [i, { w, of, rope }] of streams.entries()) {
          const part = w[layer].apply(gpu, shared[i]!, { into: of(plain) });
          rmsNorm(gpu, part, w[weight], EPS, { rope, into: of(y) });
        }
        return y;
      });
    const q = normed("toQ", "normQ"), k = normed("toK", "normK");
    const halves = (!selfAttention || selfAttention.consuming) && takesHalves(gpu, shape.at(-1)!, heads) &&
      streams[0]!.w.toV.givesHalves(gpu, shared[0]!);
    const v = gpu.tensor(shape, halves ? "f16" : "f32");
    for (const [i, { w, of }] of streams.entries()) {
      if (halves) w.toV.applyHalves(gpu, shared[i]!, of(v));
      else w.toV.apply(gpu, shared[i]!, { into: of(v) });
    }
    return [q, k, v] as const;
  });
}

/** Attention over all tokens, in the place of q where no backward pass needs that. */
function attended(
  gpu: Gpu,
  heads: number,
  [q, k, v]: Projected,
  attend: SelfAttention | undefined,
  layer: number,
): Tensor {
  if (!attend) return attention(gpu, q, k, v, { heads, into: overQueries(gpu, q) });
  // Not for a next product: each stream has one, and the result is in rows.
  const y = gpu.tape ? undefined : attend.consuming?.(q, k, v, layer);
  return y instanceof Tensor ? y : attend(q, k, v, layer);
}

/** Attention over all tokens. It frees what it takes, so that few tensors are in memory at once. */
export function attend(
  gpu: Gpu,
  { heads }: TransformerConfig,
  projected: Projected,
  { selfAttention }: BlockInputs,
  layer: number,
): Tensor {
  const y = attended(gpu, heads, projected, selfAttention, layer);
  for (const tensor of projected) if (tensor.buffer !== y.buffer) gpu.release(tensor);
  return y;
}
