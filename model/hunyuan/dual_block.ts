import type { Gpu } from "../../gpu/gpu.ts";
import { gated } from "../../gpu/ops/gated.ts";
import { layerNormInto } from "../../gpu/ops/layer_norm.ts";
import type { ModulationVector } from "../../gpu/ops/modulation.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { cachedAttention } from "../cache/cached_attention.ts";
import { feedForward, type FeedForwardWeights } from "../layers/feed_forward.ts";
import { Linear } from "../layers/linear.ts";
import type { Weights } from "../weights/weights.ts";
import type { TransformerConfig } from "./config.ts";
import {
  AdaptiveVectors,
  attend,
  type BlockInputs,
  EPS,
  loadProjections,
  project,
  type ProjectionWeights,
  tokensOf,
} from "./streams.ts";

/** The weights of one stream. */
interface StreamWeights extends ProjectionWeights {
  /** Makes shift, scale and gate of attention, then of the feed-forward. */
  readonly adaptive: AdaptiveVectors;
  readonly toOut: Linear;
  readonly ff: FeedForwardWeights;
}

/** The weights of a dual-stream block: video and text have weights of their own, and attend to each other. */
export interface DualBlock {
  readonly video: StreamWeights;
  readonly text: StreamWeights;
}

/** Loads `transformer_blocks.N`. */
export async function loadDualBlock(weights: Weights, config: TransformerConfig): Promise<DualBlock> {
  const { dim, ffnDim } = config;
  const stream = async (of: "video" | "text", norm: string, out: string, ff: string): Promise<StreamWeights> => ({
    adaptive: await AdaptiveVectors.load(weights, `${norm}.linear`, 6, dim),
    ...await loadProjections(weights, of, config),
    toOut: await Linear.load(weights, `attn.${out}`, dim, dim),
    ff: {
      up: await Linear.load(weights, `${ff}.net.0.proj`, ffnDim, dim),
      down: await Linear.load(weights, `${ff}.net.2`, dim, ffnDim),
    },
  });
  return {
    video: await stream("video", "norm1", "to_out.0", "ff"),
    text: await stream("text", "norm1_context", "to_add_out", "ff_context"),
  };
}

/** A stream on its way through a block. */
interface Stream {
  readonly w: StreamWeights;
  readonly vector: (index: number) => ModulationVector;
  /** Its tokens of a tensor of all tokens. */
  readonly of: (all: Tensor) => Tensor;
}

/**
 * Runs one block. Five tensors of the size of `x` are in memory at once, `x` included, and a norm of the text; fewer where
 * operands are packed.
 *
 * @param x [1, tokens, dim]: the video's tokens, then the text's
 * @param release frees x, which is not read any more then
 * @returns [1, tokens, dim]
 */
export function runDualBlock(
  gpu: Gpu,
  { video, text }: DualBlock,
  config: TransformerConfig,
  x: Tensor,
  inputs: BlockInputs,
  layer: number,
  release = () => {},
): Tensor {
  return gpu.scope(() => {
    const count = inputs.video, behind = x.dim(1) - count;
    const stream = (w: StreamWeights, first: number, tokens: number): Stream => ({
      ...{ w, vector: w.adaptive.of(gpu, inputs.conditioning), of: (all) => tokensOf(all, first, tokens) },
    });
    const streams = [stream(video, 0, count), stream(text, count, behind)];
    /** A tensor of all tokens, of which each stream writes its own. */
    const joined = (write: (stream: Stream, into: Tensor) => void): Tensor => {
      const y = gpu.tensor(x.shape);
      for (const one of streams) gpu.scope(() => write(one, one.of(y)));
      return y;
    };
    const normed = ({ of, vector }: Stream, all: Tensor, shift: number, next: Linear) =>
      layerNormInto(gpu, of(all), EPS, { shift: vector(shift), scale: vector(shift + 1) }, next.weight);

    const self = { cache: inputs.cache, layer, module: "self" } as const;
    const apply = (output: Tensor) =>
      joined(({ of, vector }, into) => gpu.copy(gated(gpu, of(output), vector(2), of(x)), into));
    const attended = cachedAttention(gpu, self, apply, (fused) => {
      const projected = gpu.scope(() => {
        const normedStreams = streams.map((one) => ({
          ...{ w: one.w, of: one.of, norm: normed(one, x, 0, one.w.toQ) },
          ...one.w === video && { rope: inputs.rope },
        }));
        return project(gpu, config, x.shape, normedStreams, inputs.selfAttention);
      });
      const y = attend(gpu, config, projected, inputs, layer);
      const output = joined(({ w, of, vector }, into) =>
        void w.toOut.apply(gpu, of(y), { ...fused && { gate: vector(2), residual: of(x) }, into })
      );
      gpu.release(y);
      return output;
    });
    release();
    return joined((one, into) => {
      const { w, of, vector } = one;
      feedForward(gpu, w.ff, normed(one, attended, 3, w.ff.up), vector(5), of(attended), { into });
    });
  });
}
