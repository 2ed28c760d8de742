import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { rowGates } from "../../gpu/ops/modulation.ts";
import { relativePositionBias } from "../../gpu/ops/relative_position_bias.ts";
import { rmsNorm } from "../../gpu/ops/rms_norm.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { Linear, type LinearLoadOptions } from "../layers/linear.ts";
import type { Weights } from "../weights/weights.ts";
import type { PartWeights } from "../family.ts";
import type { Umt5Config } from "./config.ts";
import { transformersName } from "./original_names.ts";
import { configFromShapes, MARKS } from "./shapes.ts";

/** The weights of one block on the GPU: self-attention and a gated feed-forward, each behind a norm. */
export interface Umt5Block {
  readonly attentionNorm: Tensor;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  /** [buckets, heads] */
  readonly positionTable: Tensor;
  readonly feedForwardNorm: Tensor;
  /** The half of the feed-forward that goes through GELU. */
  readonly wi0: Linear;
  /** The half it is multiplied by. */
  readonly wi1: Linear;
  readonly wo: Linear;
}

const BLOCK = /^encoder\.block\.\d+\./;

/** How the files of its weights are read. Of the embedding table only rows are uploaded. */
export const UMT5_WEIGHTS: PartWeights = {
  stem: "model",
  names: transformersName,
  marks: MARKS,
  configFromShapes,
  block: BLOCK,
  used: (name) => BLOCK.test(name),
  vector: (name) => name.endsWith("relative_attention_bias.weight"),
  // See `runUmt5Block`: what is multiplied in f32 always.
  exact: (name) => name.endsWith(".layer.1.DenseReluDense.wo.weight"),
};

/**
 * Uploads a block.
 *
 * @param weights scoped to the block
 * @throws {TilereelError} if a tensor is missing, has another shape, or does not fit the GPU
 */
export async function loadUmt5Block(weights: Weights, config: Umt5Config): Promise<Umt5Block> {
  const { dModel, dFf, heads, relativeBuckets } = config, inner = heads * config.dKv;
  const load = (name: string, outputs: number, inputs: number, options?: LinearLoadOptions) =>
    Linear.load(weights, name, outputs, inputs, { bias: false, ...options });
  return {
    attentionNorm: await weights.vector("layer.0.layer_norm.weight", [dModel]),
    q: await load("layer.0.SelfAttention.q", inner, dModel),
    k: await load("layer.0.SelfAttention.k", inner, dModel),
    v: await load("layer.0.SelfAttention.v", inner, dModel),
    o: await load("layer.0.SelfAttention.o", dModel, inner),
    positionTable: await weights.vector("layer.0.SelfAttention.relative_attention_bias.weight", [
      relativeBuckets,
      heads,
    ]),
    feedForwardNorm: await weights.vector("layer.1.layer_norm.weight", [dModel]),
    wi0: await load("layer.1.DenseReluDense.wi_0", dFf, dModel),
    wi1: await load("layer.1.DenseReluDense.wi_1", dFf, dModel),
    // T5's gated products exceed the range of f16, so transformers keeps this layer in f32, too.
    wo: await load("layer.1.DenseReluDense.wo", dModel, dFf, { exact: true }),
  };
}

/** The values that all blocks share in one run. */
export interface Umt5Sequence {
  /** [batch], u32: tokens of each prompt that are not padding */
  readonly lengths: Tensor;
  /** See `relativePositionBias`. */
  readonly buckets: Tensor;
}

/**
 * Records one block.
 *
 * @param x [batch, tokens, dModel], f32
 * @returns the same shape
 */
export function runUmt5Block(gpu: Gpu, block: Umt5Block, config: Umt5Config, x: Tensor, of: Umt5Sequence): Tensor {
  return gpu.scope(() => {
    const attended = gpu.scope(() => {
      const normed = rmsNorm(gpu, x, block.attentionNorm, config.eps);
      const q = block.q.apply(gpu, normed), k = block.k.apply(gpu, normed), v = block.v.apply(gpu, normed);
      const mixed = attention(gpu, q, k, v, {
        heads: config.heads,
        scale: 1, // T5 has the scaling in its weights
        bias: relativePositionBias(gpu, block.positionTable, of.buckets),
        keyLengths: of.lengths,
      });
      return block.o.apply(gpu, mixed, { residual: x });
    });
    const normed = rmsNorm(gpu, attended, block.feedForwardNorm, config.eps);
    const gate = block.wi0.apply(gpu, normed, { activation: "gelu_tanh" });
    const hidden = block.wi1.apply(gpu, normed, { gate: rowGates(gate) });
    return block.wo.apply(gpu, hidden, { residual: attended });
  });
}
