import type { TransformerConfig } from "../../model/hunyuan/config.ts";
import { biased, numbered, tensor, type TensorSpec } from "./tensor_spec.ts";

/** The tensors of `HunyuanVideoTransformer3DModel`. */
export function hunyuanTransformerTensors(config: TransformerConfig): TensorSpec[] {
  const { dim, dualLayers, layers, textDim, pooledDim, inChannels, outChannels, patchSize, guidanceEmbeds } = config;
  const embedder = (name: string, inputs: number) => [
    ...biased(`${name}.linear_1`, dim, inputs),
    ...biased(`${name}.linear_2`, dim, dim),
  ];
  return [
    ...biased("x_embedder.proj", dim, inChannels, ...patchSize),
    ...biased("context_embedder.proj_in", dim, textDim),
    ...embedder("context_embedder.time_text_embed.timestep_embedder", 256),
    ...embedder("context_embedder.time_text_embed.text_embedder", textDim),
    ...numbered(config.refinerLayers, (i) => refinerBlock(`context_embedder.token_refiner.refiner_blocks.${i}`, dim)),
    ...embedder("time_text_embed.timestep_embedder", 256),
    ...(guidanceEmbeds ? embedder("time_text_embed.guidance_embedder", 256) : []),
    ...embedder("time_text_embed.text_embedder", pooledDim),
    ...numbered(dualLayers, (i) => dualBlock(`transformer_blocks.${i}`, config)),
    ...numbered(layers - dualLayers, (i) => singleBlock(`single_transformer_blocks.${i}`, config)),
    ...["norm_out.scale", "norm_out.shift"].flatMap((layer) => biased(layer, dim, dim)),
    ...biased("proj_out", outChannels * patchSize.reduce((a, b) => a * b), dim),
  ];
}

function refinerBlock(name: string, dim: number): TensorSpec[] {
  return [
    ...["norm1", "norm2"].flatMap((norm) => ["weight", "bias"].map((kind) => tensor(`${name}.${norm}.${kind}`, dim))),
    ...["to_q", "to_k", "to_v", "to_out.0"].flatMap((layer) => biased(`${name}.attn.${layer}`, dim, dim)),
    ...biased(`${name}.ff.net.0.proj`, 4 * dim, dim),
    ...biased(`${name}.ff.net.2`, dim, 4 * dim),
    ...biased(`${name}.norm_out.linear`, 2 * dim, dim),
  ];
}

function dualBlock(name: string, { dim, headDim, ffnDim }: TransformerConfig): TensorSpec[] {
  const square = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"];
  return [
    ...["norm1", "norm1_context"].flatMap((norm) => biased(`${name}.${norm}.linear`, 6 * dim, dim)),
    ...square.flatMap((layer) => biased(`${name}.attn.${layer}`, dim, dim)),
    ...["q", "k", "added_q", "added_k"].map((of) => tensor(`${name}.attn.norm_${of}.weight`, headDim)),
    ...["ff", "ff_context"].flatMap((ff) => [
      ...biased(`${name}.${ff}.net.0.proj`, ffnDim, dim),
      ...biased(`${name}.${ff}.net.2`, dim, ffnDim),
    ]),
  ];
}

function singleBlock(name: string, { dim, headDim, ffnDim }: TransformerConfig): TensorSpec[] {
  return [
    ...biased(`${name}.norm.linear`, 3 * dim, dim),
    ...["to_q", "to_k", "to_v"].flatMap((layer) => biased(`${name}.attn.${layer}`, dim, dim)),
    ...["q", "k"].map((of) => tensor(`${name}.attn.norm_${of}.weight`, headDim)),
    ...biased(`${name}.proj_mlp`, ffnDim, dim),
    ...biased(`${name}.proj_out`, dim, dim + ffnDim),
  ];
}
