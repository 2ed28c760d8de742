import type { Gpu } from "../../gpu/gpu.ts";
import { gated } from "../../gpu/ops/gated.ts";
import { layerNormInto } from "../../gpu/ops/layer_norm.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { cachedAttention } from "../cache/cached_attention.ts";
import { feedForward } from "../layers/feed_forward.ts";
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
} from "./streams.ts";

/** The weights of a single-stream block, which video and text share. Attention and feed-forward are side by side. */
export interface SingleBlock extends ProjectionWeights {
  /** Makes shift, scale and gate. */
  readonly adaptive: AdaptiveVectors;
  /** To the feed-forward's channels. */
  readonly up: Linear;
  /** From the outputs of attention and feed-forward, one behind the other. */
  readonly out: Linear;
}

/** Loads `single_transformer_blocks.N`. */
export async function loadSingleBlock(weights: Weights, config: TransformerConfig): Promise<SingleBlock> {
  const { dim, ffnDim } = config;
  return {
    adaptive: await AdaptiveVectors.load(weights, "norm.linear", 3, dim),
    ...await loadProjections(weights, "video", config),
    up: await Linear.load(weights, "proj_mlp", ffnDim, dim),
    out: await Linear.load(weights, "proj_out", dim, dim + ffnDim),
  };
}

/**
 * Runs one block. Five tensors of the size of `x` are in memory at once, `x` included, and fewer where operands are packed.
 *
 * @param x [1, tokens, dim]: the video's tokens, then the text's
 * @param release frees x, which is not read any more then
 * @returns [1, tokens, dim]
 */
export function runSingleBlock(
  gpu: Gpu,
  w: SingleBlock,
  config: TransformerConfig,
  x: Tensor,
  inputs: BlockInputs,
  layer: number,
  release = () => {},
): Tensor {
  const { dim, ffnDim } = config;
  return gpu.scope(() => {
    const vector = w.adaptive.of(gpu, inputs.conditioning), gate = vector(2);
    const norm = () => layerNormInto(gpu, x, EPS, { shift: vector(0), scale: vector(1) }, w.up.weight);
    const self = { cache: inputs.cache, layer, module: "self" } as const;
    const attended = cachedAttention(gpu, self, (output) => gated(gpu, output, gate, x), (fused) =>
      gpu.scope(() => {
        const all = { w, rope: inputs.rope, of: (all: Tensor) => all };
        const streams = () => [{ ...all, norm: norm() }];
        const projected = gpu.scope(() => project(gpu, config, x.shape, streams(), inputs.selfAttention));
        const y = attend(gpu, config, projected, inputs, layer);
        const out = w.out.ofInputs(gpu, 0, dim, { bias: true });
        return out.apply(gpu, y, fused ? { gate, residual: x } : {});
      }));
    // The norm is made again, for it would lie beside the operands of attention.
    const down = w.out.ofInputs(gpu, dim, ffnDim, { bias: false });
    const again = norm();
    release();
    return feedForward(gpu, { up: w.up, down }, again, gate, attended);
  });
}
