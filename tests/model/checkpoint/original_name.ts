/** The names of tensors that Wan's repository has for diffusers' ones, with ComfyUI's prefix. */
export function originalName(name: string): string {
  const renamed = name.replace("condition_embedder.time_proj", "time_projection.1")
    .replace(/condition_embedder\.(time|text)_embedder\.linear_([12])/, (_, of, i) => `${of}_embedding.${2 * i - 2}`)
    .replace(/^scale_shift_table/, "head.modulation").replace("scale_shift_table", "modulation")
    .replace(/condition_embedder\.image_embedder\.norm([12])/, (_, i) => `img_emb.proj.${4 * i - 4 || 0}`)
    .replace("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1")
    .replace("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3")
    .replace("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos")
    .replace(/add_([kv])_proj/, "$1_img").replace("norm_added_k", "norm_k_img")
    .replace("proj_out", "head.head").replace("ffn.net.0.proj", "ffn.0").replace("ffn.net.2", "ffn.2")
    .replace("norm2", "norm3").replace("attn1", "self_attn").replace("attn2", "cross_attn")
    .replace(/to_([qkv])/, "$1").replace("to_out.0", "o");
  return `model.diffusion_model.${renamed}`;
}

/** The names of tensors that Wan's repository has for diffusers' ones of Wan 2.1's VAE. */
export function originalVaeName(name: string): string {
  return name.replace("norm1", "residual.0").replace("conv1", "residual.2").replace("norm2", "residual.3")
    .replace("conv2", "residual.6").replace("conv_shortcut", "shortcut")
    .replace("post_quant_conv", "conv2").replace("quant_conv", "conv1").replace("conv_in", "conv1")
    .replace("mid_block.resnets.0", "middle.0").replace("mid_block.resnets.1", "middle.2")
    .replace("mid_block.attentions.0", "middle.1").replace("norm_out", "head.0").replace("conv_out", "head.2")
    .replace("down_blocks", "downsamples")
    .replace(/up_blocks\.(\d)\.resnets\.(\d)/, (_, stage, at) => `upsamples.${4 * stage + Number(at)}`)
    .replace(/up_blocks\.(\d)\.upsamplers\.0/, (_, stage) => `upsamples.${4 * stage + 3}`);
}

/** The names of tensors that Wan's repository has for transformers' ones of UMT5. */
export function originalTextName(name: string): string {
  return name.replace("encoder.block", "blocks")
    .replace("layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding")
    .replace("layer.0.SelfAttention", "attn").replace("layer.0.layer_norm", "norm1")
    .replace("layer.1.layer_norm", "norm2").replace("layer.1.DenseReluDense.wi_0", "ffn.gate.0")
    .replace("layer.1.DenseReluDense.wi_1", "ffn.fc1").replace("layer.1.DenseReluDense.wo", "ffn.fc2")
    .replace("encoder.final_layer_norm", "norm").replace("shared", "token_embedding");
}
