import type { Gpu } from "../../gpu/gpu.ts";
import { causalAttention } from "../../gpu/ops/causal_attention.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { layoutNames, sameNames } from "../checkpoint/layout_names.ts";
import type { PartWeights } from "../family.ts";
import { Linear } from "../layers/linear.ts";
import { loadNorm, type Norm } from "../layers/norm.ts";
import type { Weights } from "../weights/weights.ts";
import type { ClipTextConfig } from "./config.ts";

/** The weights of one block on the GPU. */
export interface ClipTextBlock {
  readonly attentionNorm: Norm;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly out: Linear;
  readonly feedForwardNorm: Norm;
  readonly up: Linear;
  readonly down: Linear;
}

const BLOCK = /^encoder\.layers\.\d+\./;
export const POSITIONS = "embeddings.position_embedding.weight", FINAL_NORM = "final_layer_norm";

/** The layers of a block that LoRAs change. */
const LAYERS = sameNames(
  ...["q_proj", "k_proj", "v_proj", "out_proj"].map((name) => `self_attn.${name}`),
  "mlp.fc1",
  "mlp.fc2",
);

/**
 * How the files of its weights are read. Before transformers 5 a prefix stood before the names. Of the embedding table
 * only rows are uploaded.
 */
export const CLIP_TEXT_WEIGHTS: PartWeights = {
  stem: "model",
  names: layoutNames(
    [{ blocks: ["encoder.layers", "encoder.layers"], layers: LAYERS }, { layers: {} }],
    /^text_model[._]/,
  ),
  block: BLOCK,
  used: (name) => BLOCK.test(name) || name === POSITIONS || name.startsWith(FINAL_NORM),
};

/**
 * Uploads a block.
 *
 * @param weights scoped to the block
 * @throws {TilereelError} if a tensor is missing, has another shape, or does not fit the GPU
 */
export async function loadClipTextBlock(weights: Weights, { dim, ffnDim }: ClipTextConfig): Promise<ClipTextBlock> {
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
 * @param mask see `causalMask`
 * @returns the same shape
 */
export function runClipTextBlock(
  gpu: Gpu,
  block: ClipTextBlock,
  { heads, eps }: ClipTextConfig,
  x: Tensor,
  mask: Tensor,
): Tensor {
  return gpu.scope(() => {
    const attended = gpu.scope(() => {
      const normed = layerNorm(gpu, x, eps, block.attentionNorm);
      const [q, k, v] = [block.q, block.k, block.v].map((of) => of.apply(gpu, normed)) as [Tensor, Tensor, Tensor];
      return block.out.apply(gpu, causalAttention(gpu, q, k, v, { heads, mask }), { residual: x });
    });
    const normed = layerNorm(gpu, attended, eps, block.feedForwardNorm);
    const wide = block.up.applyInto(gpu, normed, block.down, { activation: "quick_gelu" });
    return block.down.apply(gpu, wide, { residual: attended });
  });
}
