import { assert, assertEquals } from "@std/assert";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { UMT5_WEIGHTS } from "../../../model/umt5/block.ts";
import { transformersName } from "../../../model/umt5/original_names.ts";
import { diffusersName, diffusersVaeName } from "../../../model/wan/original_names.ts";
import { VAE_WEIGHTS } from "../../../model/wan/weights.ts";
import { MODEL } from "../../process.ts";

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
  const block = (name: string) =>
    name.replace("norm1", "residual.0").replace("conv1", "residual.2").replace("norm2", "residual.3")
      .replace("conv2", "residual.6").replace("conv_shortcut", "shortcut");
  const original = (name: string) =>
    block(name).replace("post_quant_conv", "conv2").replace("quant_conv", "conv1").replace("conv_in", "conv1")
      .replace("mid_block.resnets.0", "middle.0").replace("mid_block.resnets.1", "middle.2")
      .replace("mid_block.attentions.0", "middle.1").replace("norm_out", "head.0").replace("conv_out", "head.2")
      .replace("down_blocks", "downsamples")
      .replace(/up_blocks\.(\d)\.resnets\.(\d)/, (_, stage, at) => `upsamples.${4 * stage + Number(at)}`)
      .replace(/up_blocks\.(\d)\.upsamplers\.0/, (_, stage) => `upsamples.${4 * stage + 3}`);
  using vae = await openPart(`${MODEL}/vae`, VAE_WEIGHTS);
  const names = vae.names(), others = names.map(original);
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
  const original = (name: string) =>
    name.replace("encoder.block", "blocks").replace(
      "layer.0.SelfAttention.relative_attention_bias",
      "pos_embedding.embedding",
    )
      .replace("layer.0.SelfAttention", "attn").replace("layer.0.layer_norm", "norm1")
      .replace("layer.1.layer_norm", "norm2").replace("layer.1.DenseReluDense.wi_0", "ffn.gate.0")
      .replace("layer.1.DenseReluDense.wi_1", "ffn.fc1").replace("layer.1.DenseReluDense.wo", "ffn.fc2")
      .replace("encoder.final_layer_norm", "norm").replace("shared", "token_embedding");
  using encoder = await openPart(`${MODEL}/text_encoder`, UMT5_WEIGHTS);
  const names = encoder.names(), others = names.map(original);
  assert(others.every((name, i) => name !== names[i]));
  assertEquals([names.map(transformersName), others.map(transformersName)], [names, names]);
});
