import { assertEquals } from "@std/assert";
import { diffusersName } from "../../../model/wan/original_names.ts";

Deno.test("tensors and LoRA's keys have diffusers' names, whatever program wrote them", () => {
  const same: Record<string, string[]> = {
    "blocks.12.attn1.to_q.weight": [
      "blocks.12.self_attn.q.weight",
      "model.diffusion_model.blocks.12.self_attn.q.weight",
      "diffusion_model.blocks.12.self_attn.q.weight",
      "transformer.blocks.12.attn1.to_q.weight",
      "lora_unet_blocks_12_self_attn_q.weight",
      "lora_unet_blocks_12_attn1_to_q.weight",
    ],
    "blocks.0.attn2.to_out.0.bias": ["blocks.0.cross_attn.o.bias", "lora_unet_blocks_0_attn2_to_out_0.bias"],
    "blocks.0.attn2.norm_k.weight": ["blocks.0.cross_attn.norm_k.weight"],
    "blocks.3.ffn.net.0.proj.weight": ["blocks.3.ffn.0.weight", "lora_unet_blocks_3_ffn_0.weight"],
    "blocks.3.ffn.net.2.weight": ["blocks.3.ffn.2.weight", "lora_unet_blocks_3_ffn_net_2.weight"],
    "blocks.0.norm2.bias": ["blocks.0.norm3.bias"],
    "blocks.0.scale_shift_table": ["blocks.0.modulation", "model.blocks.0.modulation"],
    "scale_shift_table": ["head.modulation"],
    "proj_out.weight": ["head.head.weight", "lora_unet_head_head.weight"],
    "patch_embedding.weight": ["model.patch_embedding.weight"],
    "condition_embedder.time_embedder.linear_2.bias": ["time_embedding.2.bias"],
    "condition_embedder.time_proj.weight": ["time_projection.1.weight", "lora_unet_time_projection_1.weight"],
    "condition_embedder.text_embedder.linear_1.weight": ["text_embedding.0.weight"],
    "img_emb.proj.1.weight": ["img_emb.proj.1.weight"],
    "blocks.0.cross_attn.k_img.weight": ["diffusion_model.blocks.0.cross_attn.k_img.weight"],
  };
  for (const [name, others] of Object.entries(same)) {
    for (const other of [name, ...others]) assertEquals(diffusersName(other), name, other);
  }
});
