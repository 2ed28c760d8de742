import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { gated } from "../../gpu/ops/gated.ts";
import { layerNorm, layerNormInto } from "../../gpu/ops/layer_norm.ts";
import { modulation, type ModulationVector } from "../../gpu/ops/modulation.ts";
import { isIn } from "../../gpu/ops/packed_operand.ts";
import type { Rope } from "../../gpu/ops/rms_norm.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { SelfAttention } from "../attention/method.ts";
import { cachedAttention } from "../cache/cached_attention.ts";
import type { CacheHooks } from "../cache/step_cache.ts";
import { Linear } from "../layers/linear.ts";
import { loadNorm, type Norm } from "../layers/norm.ts";
import type { Weights } from "../weights/weights.ts";
import {
  attend,
  attendToContext,
  type AttentionWeights,
  type Context,
  loadAttention,
  loadImageKeys,
  project,
  queries,
} from "./attention.ts";
import type { TransformerConfig } from "./config.ts";
import { feedForward, type FeedForwardWeights } from "../layers/feed_forward.ts";

/** Weights of one block: self-attention, cross-attention to the text, feed-forward. */
export interface BlockWeights extends FeedForwardWeights {
  readonly selfAttention: AttentionWeights;
  readonly crossAttention: AttentionWeights;
  /** Of the norm before cross-attention, where the model has one. */
  readonly crossNorm: Norm | undefined;
  /** [1, 6, dim]: shift, scale and gate of self-attention, then of the feed-forward */
  readonly scaleShiftTable: Tensor;
}

/** Loads `blocks.N`. */
export async function loadBlock(weights: Weights, config: TransformerConfig): Promise<BlockWeights> {
  const { dim, ffnDim } = config;
  return {
    selfAttention: await loadAttention(weights.scope("attn1."), dim, config.gated),
    crossAttention: {
      ...await loadAttention(weights.scope("attn2."), dim),
      ...config.images && { image: await loadImageKeys(weights.scope("attn2."), dim) },
    },
    crossNorm: config.crossAttnNorm ? await loadNorm(weights, "norm2", dim) : undefined,
    up: await Linear.load(weights, "ffn.net.0.proj", ffnDim, dim),
    down: await Linear.load(weights, "ffn.net.2", dim, ffnDim),
    scaleShiftTable: await weights.vector("scale_shift_table", [1, 6, dim]),
  };
}

/** The inputs that all blocks of a forward pass share. */
export interface BlockInputs extends Context {
  /** [batch, 6, dim]: the timestep's part of shift, scale and gate; of a batch of one [frames, 6, dim], too */
  readonly time: Tensor;
  readonly rope: Rope;
  /** Default: full attention. */
  readonly selfAttention: SelfAttention | undefined;
  readonly cache?: CacheHooks | undefined;
}

/**
 * Runs one block. At most five tensors of the size of `x` are in memory at once, `x` included: x, q, k, v, and the result
 * of the norm while these are made, which takes less where it is packed. The output of attention takes the place of q, or
 * is packed. A gate is one more, and so is attention to image tokens.
 *
 * @param x [batch, tokens, dim]
 * @param layer the block's index
 * @param release frees x, which is not read any more then
 * @returns [batch, tokens, dim]
 */
export function runBlock(
  gpu: Gpu,
  w: BlockWeights,
  config: TransformerConfig,
  x: Tensor,
  inputs: BlockInputs,
  layer: number,
  release = () => {},
): Tensor {
  const { eps } = config, { time, rope, selfAttention, cache } = inputs;
  return gpu.scope(() => {
    const mod = modulation(gpu, w.scaleShiftTable, time);
    const vector = (index: number): ModulationVector => ({ tensor: mod, index });
    const toOut = w.selfAttention.toOut.weight;
    const sparse = selfAttention &&
      ((q: Tensor, k: Tensor, v: Tensor, gate?: Tensor) =>
        (!gate && !gpu.tape ? selfAttention.consuming?.(q, k, v, layer, toOut) : undefined) ??
          selfAttention(q, k, v, layer, gate));
    const self = { cache, layer, module: "self" } as const, cross = { cache, layer, module: "cross" } as const;
    const gate = vector(2);
    const afterSelf = cachedAttention(gpu, self, (output) => gated(gpu, output, gate, x), (fused) => {
      const ofTokens = gpu.scope(() => {
        const adaptive = { shift: vector(0), scale: vector(1) };
        const norm = layerNormInto(gpu, x, eps, adaptive, w.selfAttention.toQ.weight);
        const halves = !selfAttention || selfAttention.consuming !== undefined;
        return project(gpu, w.selfAttention, config, norm, { rope, gate: selfAttention?.takesGate ?? false, halves });
      });
      return attend(gpu, w.selfAttention, config, ofTokens, fused ? { gate, residual: x } : {}, sparse);
    });

    release();
    const add = (output: Tensor) => combine(gpu, [[1, afterSelf], [1, output]]);
    const afterCross = cachedAttention(gpu, cross, add, (fused) =>
      gpu.scope(() => {
        const { crossNorm, crossAttention: own } = w;
        const q = gpu.scope(() => {
          const norm = crossNorm ? layerNormInto(gpu, afterSelf, eps, crossNorm, own.toQ.weight) : afterSelf;
          return queries(gpu, own, config, norm);
        });
        const y = attendToContext(gpu, own, config, q, inputs, layer);
        if (!isIn(q.buffer, y)) gpu.release(q);
        return own.toOut.applyLast(gpu, y, fused ? { residual: afterSelf } : {});
      }));
    gpu.release(afterSelf);

    const adaptive = { shift: vector(3), scale: vector(4) };
    // A batch that is stored in blocks cannot be split into the pieces that the feed-forward takes.
    const norm = afterCross.dim(0) === 1
      ? layerNormInto(gpu, afterCross, eps, adaptive, w.up.weight)
      : layerNorm(gpu, afterCross, eps, adaptive);
    // Gates of frames do not divide into the pieces that the feed-forward takes.
    if (time.dim(0) === x.dim(0)) return feedForward(gpu, w, norm, vector(5), afterCross);
    return gated(gpu, feedForward(gpu, w, norm), vector(5), afterCross);
  });
}
