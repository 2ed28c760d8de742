/**
 * One block of the transformer: self-attention, cross-attention to the text, feed-forward.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import { linear } from "../../gpu/ops/linear.ts";
import { type Chunk, modulation } from "../../gpu/ops/modulation.ts";
import type { Rope } from "../../gpu/ops/rms_norm.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Weights } from "../weights.ts";
import { attentionLayer, type AttentionWeights, loadAttention } from "./attention.ts";
import type { TransformerConfig } from "./config.ts";
import { type Linear, loadLinear } from "./linear.ts";

/** Weights of one block. */
export interface BlockWeights {
  readonly selfAttention: AttentionWeights;
  readonly crossAttention: AttentionWeights;
  /** Of the norm before cross-attention, where the model has one. */
  readonly crossNorm: { readonly weight: Tensor; readonly bias: Tensor } | undefined;
  readonly up: Linear;
  readonly down: Linear;
  /** [1, 6, dim]: shift, scale and gate of self-attention, then of the feed-forward */
  readonly scaleShiftTable: Tensor;
}

/** Loads `blocks.N`. */
export async function loadBlock(weights: Weights, config: TransformerConfig): Promise<BlockWeights> {
  const { dim, ffnDim } = config;
  return {
    selfAttention: await loadAttention(weights.scope("attn1."), dim),
    crossAttention: await loadAttention(weights.scope("attn2."), dim),
    crossNorm: config.crossAttnNorm
      ? { weight: await weights.vector("norm2.weight", [dim]), bias: await weights.vector("norm2.bias", [dim]) }
      : undefined,
    up: await loadLinear(weights, "ffn.net.0.proj", ffnDim, dim),
    down: await loadLinear(weights, "ffn.net.2", dim, ffnDim),
    scaleShiftTable: await weights.vector("scale_shift_table", [1, 6, dim]),
  };
}

/** What all blocks of a forward pass share. */
export interface Conditioning {
  /** [batch, text tokens, dim] */
  readonly text: Tensor;
  /** [batch, 6, dim]: the timestep's part of shift, scale and gate */
  readonly time: Tensor;
  readonly rope: Rope;
}

/**
 * Runs one block.
 *
 * @param x [batch, tokens, dim]
 * @returns [batch, tokens, dim]
 */
export function runBlock(
  gpu: Gpu,
  w: BlockWeights,
  config: TransformerConfig,
  x: Tensor,
  { text, time, rope }: Conditioning,
): Tensor {
  const { eps } = config;
  return gpu.scope(() => {
    const mod = modulation(gpu, w.scaleShiftTable, time);
    const chunk = (index: number): Chunk => ({ tensor: mod, index });

    const afterSelf = gpu.scope(() => {
      const norm = layerNorm(gpu, x, eps, { shift: chunk(0), scale: chunk(1) });
      return attentionLayer(gpu, w.selfAttention, config, norm, norm, rope, { gate: chunk(2), residual: x });
    });

    const afterCross = gpu.scope(() => {
      const norm = w.crossNorm ? layerNorm(gpu, afterSelf, eps, w.crossNorm) : afterSelf;
      return attentionLayer(gpu, w.crossAttention, config, norm, text, undefined, { residual: afterSelf });
    });
    gpu.release(afterSelf);

    const norm = layerNorm(gpu, afterCross, eps, { shift: chunk(3), scale: chunk(4) });
    return feedForward(gpu, w, norm, chunk(5), afterCross);
  });
}

/** The widened activations of a feed-forward take at most so many bytes at once. */
const FFN_BYTES = 512 * 2 ** 20;

/** residual + gate · down(gelu(up(x))), a piece of the tokens at a time where the widened activations are large. */
function feedForward(gpu: Gpu, w: BlockWeights, x: Tensor, gate: Chunk, residual: Tensor): Tensor {
  const [batch, tokens, dim] = x.shape as [number, number, number];
  const y = gpu.tensor(x.shape);
  const run = (x: Tensor, gate: Chunk, residual: Tensor, into: Tensor) =>
    gpu.scope(() => {
      const up = linear(gpu, x, w.up.weight, { bias: w.up.bias, activation: "gelu_tanh" });
      linear(gpu, up, w.down.weight, { bias: w.down.bias, gate, residual, into });
    });
  const most = Math.floor(Math.min(FFN_BYTES, gpu.maxTensorBytes) / (4 * w.up.weight.dim(0)));
  if (batch * tokens <= most) {
    // The items of a small batch may begin where no buffer can be bound.
    run(x, gate, residual, y);
    return y;
  }
  // A multiple of 64 rows keeps every piece on a boundary that can be bound.
  const piece = Math.max(64, Math.floor(most / 64) * 64);
  const item = (t: Tensor, b: number) => t.rows(b, 1).reshape([tokens, dim]);
  for (let b = 0; b < batch; b++) {
    for (let start = 0; start < tokens; start += piece) {
      const count = Math.min(piece, tokens - start);
      const part = (t: Tensor) => item(t, b).rows(start, count);
      run(part(x), { tensor: gate.tensor.rows(b, 1), index: gate.index }, part(residual), part(y));
    }
  }
  return y;
}
