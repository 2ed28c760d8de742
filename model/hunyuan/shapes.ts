import type { Config } from "../checkpoint/json.ts";
import { countOf, lengthOf, shapeOf } from "../checkpoint/shapes.ts";
import { otherTensors } from "../checkpoint/tensor_names.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";

/** Tensors that only HunyuanVideo's transformers have: version 1.5 has no single-stream blocks. */
export const TRANSFORMER_MARKS: readonly string[] = [
  "context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight",
  "single_transformer_blocks.0.proj_mlp.weight",
];
/** Tensors that only HunyuanVideo's autoencoders have. */
export const VAE_MARKS: readonly string[] = [
  "encoder.conv_in.conv.weight",
  "post_quant_conv.weight",
  "decoder.mid_block.attentions.0.to_q.weight",
];

/** The channels of a head that turn with frames, rows and columns: 1/8, 7/16 and 7/16 of all. */
const ropeOf = (headDim: number) => [headDim / 8, headDim * 7 / 16, headDim * 7 / 16];

/**
 * What the shapes of a transformer's weights say, by the keys of its `config.json`.
 *
 * @param config says how RoPE divides a head, where it is not as in HunyuanVideo
 * @throws {TilereelError} if these are other weights, or one is missing
 */
export function configFromShapes(weights: TensorSource, config: Config): Record<string, unknown> {
  if (!TRANSFORMER_MARKS.every((name) => weights.has(name))) {
    throw otherTensors(weights, "a transformer of HunyuanVideo");
  }
  const [dim, inChannels, patchFrames] = shapeOf(weights, "x_embedder.proj.weight");
  const patch = weights.info("x_embedder.proj.weight").shape[3] ?? 2;
  const headDim = lengthOf(weights, "transformer_blocks.0.attn.norm_q.weight");
  return {
    ...{ _class_name: "HunyuanVideoTransformer3DModel", in_channels: inChannels, patch_size: patch },
    out_channels: shapeOf(weights, "proj_out.weight")[0] / (patchFrames * patch ** 2),
    patch_size_t: patchFrames,
    num_attention_heads: dim / headDim,
    attention_head_dim: headDim,
    num_layers: countOf(weights, /^transformer_blocks\.(\d+)\./),
    num_single_layers: countOf(weights, /^single_transformer_blocks\.(\d+)\./),
    num_refiner_layers: countOf(weights, /^context_embedder\.token_refiner\.refiner_blocks\.(\d+)\./),
    mlp_ratio: shapeOf(weights, "transformer_blocks.0.ff.net.0.proj.weight")[0] / dim,
    text_embed_dim: shapeOf(weights, "context_embedder.proj_in.weight")[1],
    pooled_projection_dim: shapeOf(weights, "time_text_embed.text_embedder.linear_1.weight")[1],
    guidance_embeds: weights.has("time_text_embed.guidance_embedder.linear_1.weight"),
    rope_axes_dim: config.isNull("rope_axes_dim") ? ropeOf(headDim) : config.integers("rope_axes_dim", [], 3),
  };
}

/**
 * What the shapes of an autoencoder's weights say, by the keys of its `config.json`.
 *
 * @param config says the number of groups of norms. Default: 32
 * @throws {TilereelError} if these are other weights, or one is missing
 */
export function vaeConfigFromShapes(weights: TensorSource, config: Config): Record<string, unknown> {
  if (!VAE_MARKS.every((name) => weights.has(name))) throw otherTensors(weights, "a VAE of HunyuanVideo");
  const stages = countOf(weights, /^encoder\.down_blocks\.(\d+)\./);
  return {
    _class_name: "AutoencoderKLHunyuanVideo",
    block_out_channels: Array.from(
      { length: stages },
      (_, i) => shapeOf(weights, `encoder.down_blocks.${i}.resnets.0.conv1.conv.weight`)[0],
    ),
    layers_per_block: countOf(weights, /^encoder\.down_blocks\.0\.resnets\.(\d+)\./),
    latent_channels: shapeOf(weights, "post_quant_conv.weight")[0],
    norm_num_groups: config.integer("norm_num_groups", 32),
  };
}
