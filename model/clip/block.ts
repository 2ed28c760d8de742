import type { Gpu } from "../../gpu/gpu.ts";
import { encoderAttention } from "../../gpu/ops/encoder_attention.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { layoutNames, sameNames } from "../checkpoint/layout_names.ts";
import { Linear } from "../layers/linear.ts";
import { loadNorm, type Norm } from "../layers/norm.ts";
import type { Weights } from "../weights/weights.ts";
import type { Activation } from "../../gpu/kernels/gemm/epilogue.ts";

/** The sizes of the blocks of a CLIP encoder, of text or of pictures. */
export interface ClipShape {
  /** Channels of a token. */
  readonly dim: number;
  readonly ffnDim: number;
  readonly layers: number;
  readonly heads: number;
  readonly eps: number;
  readonly activation: Activation;
}

/** The weights of one block on the GPU. */
export interface ClipBlock {
  readonly attentionNorm: Norm;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly out: Linear;
  readonly feedForwardNorm: Norm;
  readonly up: Linear;
  readonly down: Linear;
}

/** Finds the prefix of a block's tensors. */
export const CLIP_BLOCK = /^encoder\.layers\.\d+\./;

/** The names of both encoders, of which LoRAs change layers of blocks. Before transformers 5 a prefix stood before them. */
export const clipNames = (prefix: RegExp) =>
  layoutNames([{ blocks: ["encoder.layers", "encoder.layers"], layers: LAYERS }, { layers: {} }], prefix);

/** The prefixes of the first blocks. */
export const clipPrefixes = (count: number): string[] =>
  Array.from({ length: count }, (_, layer) => `encoder.layers.${layer}.`);

/** The layers of a block that LoRAs change. */
const LAYERS = sameNames(
  ...["q_proj", "k_proj", "v_proj", "out_proj"].map((name) => `self_attn.${name}`),
  "mlp.fc1",
  "mlp.fc2",
);

/**
 * Uploads a block.
 *
 * @param weights scoped to the block
 * @throws {TilereelError} if a tensor is missing, has another shape, or does not fit the GPU
 */
export async function loadClipBlock(weights: Weights, { dim, ffnDim }: ClipShape): Promise<ClipBlock> {
  const square = (name: string) => Linear.load(weights, `self_attn.${name}`, dim, dim);
  return {
    attentionNorm: await loadNorm(weights, "layer_norm1", dim),
    q: await square("q_proj"),
    k: await square("k_proj"),
    v: await square("v_proj"),
    out: await square("out_proj"),
    feedForwardNorm: await loadNorm(weights, "layer_norm2", dim),
    up: await Linear.load(weights, "mlp.fc1", ffnDim, dim),
    down: await Linear.load(weights, "mlp.fc2", dim, ffnDim),
  };
}

/**
 * Records one block.
 *
 * @param x [batch, tokens, dim], f32
 * @param mask see `causalMask`; of an encoder of text
 * @returns the same shape
 */
export function runClipBlock(
  gpu: Gpu,
  block: ClipBlock,
  { heads, eps, activation }: ClipShape,
  x: Tensor,
  mask?: Tensor,
): Tensor {
  return gpu.scope(() => {
    const attended = gpu.scope(() => {
      const normed = layerNorm(gpu, x, eps, block.attentionNorm);
      const [q, k, v] = [block.q, block.k, block.v].map((of) => of.apply(gpu, normed)) as [Tensor, Tensor, Tensor];
      return block.out.apply(gpu, encoderAttention(gpu, q, k, v, { heads, mask }), { residual: x });
    });
    const normed = layerNorm(gpu, attended, eps, block.feedForwardNorm);
    const wide = block.up.applyInto(gpu, normed, block.down, { activation });
    return block.down.apply(gpu, wide, { residual: attended });
  });
}
