import { assert, assertEquals } from "@std/assert";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { UMT5_WEIGHTS } from "../../../model/umt5/block.ts";
import { transformersName } from "../../../model/umt5/original_names.ts";
import { diffusersName, diffusersVaeName } from "../../../model/wan/original_names.ts";
import { VAE_WEIGHTS } from "../../../model/wan/weights.ts";
import { MODEL } from "../../process.ts";
import { originalTextName, originalVaeName } from "../checkpoint/original_name.ts";

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
    "condition_embedder.image_embedder.ff.net.0.proj.weight": ["img_emb.proj.1.weight"],
    "condition_embedder.image_embedder.norm2.bias": ["img_emb.proj.4.bias"],
    "condition_embedder.image_embedder.pos_embed": ["img_emb.emb_pos", "model.diffusion_model.img_emb.emb_pos"],
    "blocks.0.attn2.add_k_proj.weight": [
      "diffusion_model.blocks.0.cross_attn.k_img.weight",
      "lora_unet_blocks_0_cross_attn_k_img.weight",
    ],
    "blocks.0.attn2.norm_added_k.weight": ["blocks.0.cross_attn.norm_k_img.weight"],
  };
  for (const [name, others] of Object.entries(same)) {
    for (const other of [name, ...others]) assertEquals(diffusersName(other), name, other);
  }
});

Deno.test("a VAE's tensors have diffusers' names", async () => {
  using vae = await openPart(`${MODEL}/vae`, VAE_WEIGHTS);
  const names = vae.names(), others = names.map(originalVaeName);
  for (const known of ["decoder.middle.0.residual.0.gamma", "decoder.upsamples.4.shortcut.weight", "conv2.bias"]) {
    assert(others.includes(known), known);
  }
  assert(others.every((name, i) => name !== names[i]));
  assertEquals([names.map(diffusersVaeName), others.map(diffusersVaeName)], [names, names]);
});

Deno.test("the tensors of Wan 2.2's VAE have diffusers' names", () => {
  const names: Record<string, string> = {
    "encoder.downsamples.0.downsamples.1.residual.3.gamma": "encoder.down_blocks.0.resnets.1.norm2.gamma",
    "encoder.downsamples.1.downsamples.2.time_conv.weight": "encoder.down_blocks.1.downsampler.time_conv.weight",
    "encoder.downsamples.0.downsamples.2.resample.1.bias": "encoder.down_blocks.0.downsampler.resample.1.bias",
    "decoder.upsamples.2.upsamples.0.shortcut.weight": "decoder.up_blocks.2.resnets.0.conv_shortcut.weight",
    "decoder.upsamples.0.upsamples.3.time_conv.bias": "decoder.up_blocks.0.upsampler.time_conv.bias",
    "decoder.upsamples.3.upsamples.2.residual.6.weight": "decoder.up_blocks.3.resnets.2.conv2.weight",
  };
  for (const [original, name] of Object.entries(names)) assertEquals(diffusersVaeName(original), name);
});

Deno.test("a text encoder's tensors have transformers' names", async () => {
  using encoder = await openPart(`${MODEL}/text_encoder`, UMT5_WEIGHTS);
  const names = encoder.names(), others = names.map(originalTextName);
  assert(others.every((name, i) => name !== names[i]));
  assertEquals([names.map(transformersName), others.map(transformersName)], [names, names]);
});
