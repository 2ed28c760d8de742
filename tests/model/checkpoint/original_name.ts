/** The names of tensors that Wan's repository has for diffusers' ones, with ComfyUI's prefix. */
export function originalName(name: string): string {
  const renamed = name.replace("condition_embedder.time_proj", "time_projection.1")
    .replace(/condition_embedder\.(time|text)_embedder\.linear_([12])/, (_, of, i) => `${of}_embedding.${2 * i - 2}`)
    .replace(/^scale_shift_table/, "head.modulation").replace("scale_shift_table", "modulation")
    .replace("proj_out", "head.head").replace("ffn.net.0.proj", "ffn.0").replace("ffn.net.2", "ffn.2")
    .replace("norm2", "norm3").replace("attn1", "self_attn").replace("attn2", "cross_attn")
    .replace(/to_([qkv])/, "$1").replace("to_out.0", "o");
  return `model.diffusion_model.${renamed}`;
}
