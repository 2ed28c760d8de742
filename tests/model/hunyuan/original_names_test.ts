import { assertEquals } from "@std/assert";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { readFloat32 } from "../../../model/checkpoint/tensor_source.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { TRANSFORMER_WEIGHTS, VAE_WEIGHTS } from "../../../model/hunyuan/weights.ts";
import { inTempDir } from "../../process.ts";
import { comfyTransformer, comfyVae } from "./comfy.ts";
import { TINY, TINY_VAE } from "./tiny.ts";

const qkv = (prefix: string, names = ["to_q", "to_k", "to_v"]) => names.map((name) => `${prefix}.attn.${name}`);
const DUAL = "transformer_blocks.1", SINGLE = "single_transformer_blocks.2";
const REFINER = "context_embedder.token_refiner.refiner_blocks.0";

/** Layers of the repository's layout, and the family's whose rows they have. */
const LAYERS = {
  "double_blocks.1.img_attn_qkv": qkv(DUAL),
  "double_blocks.1.txt_attn_qkv": qkv(DUAL, ["add_q_proj", "add_k_proj", "add_v_proj"]),
  "double_blocks.1.txt_mlp.fc2": [`${DUAL}.ff_context.net.2`],
  "single_blocks.2.linear1": [...qkv(SINGLE), `${SINGLE}.proj_mlp`],
  "single_blocks.2.linear2": [`${SINGLE}.proj_out`],
  "txt_in.individual_token_refiner.blocks.0.self_attn_qkv": qkv(REFINER),
  "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1": [`${REFINER}.norm_out.linear`],
  "txt_in.c_embedder.linear_2": ["context_embedder.time_text_embed.text_embedder.linear_2"],
  "time_in.mlp.0": ["time_text_embed.timestep_embedder.linear_1"],
  "final_layer.adaLN_modulation.1": ["norm_out.shift", "norm_out.scale"],
};

Deno.test("tensors in the layout of HunyuanVideo's repository are those of diffusers", () =>
  inTempDir(async (dir) => {
    using diffusers = await openPart(TINY, TRANSFORMER_WEIGHTS);
    const tensors: Record<string, TensorToWrite> = {};
    for (const [layer, names] of Object.entries(LAYERS)) {
      for (const kind of ["weight", "bias"]) {
        const all = names.map((name) => `${name}.${kind}`), data: number[] = [];
        for (const name of all) data.push(...await readFloat32(diffusers, name));
        const [[, ...inputs] = []] = all.map((name) => diffusers.info(name).shape);
        const rows = all.map((name) => diffusers.info(name).shape[0]!).reduce((a, b) => a + b);
        tensors[`model.${layer}.${kind}`] = { dtype: "F32", shape: [rows, ...inputs], data: Float32Array.from(data) };
      }
    }
    await writeSafetensors(`${dir}/hunyuan.safetensors`, tensors);
    using original = await openPart(`${dir}/hunyuan.safetensors`, TRANSFORMER_WEIGHTS);
    const expected = Object.values(LAYERS).flat().flatMap((name) => [`${name}.weight`, `${name}.bias`]);
    assertEquals(original.names().sort(), expected.sort());
    for (const name of expected) {
      assertEquals(original.info(name).shape, diffusers.info(name).shape);
      assertEquals(await readFloat32(original, name), await readFloat32(diffusers, name));
    }
    const { names } = TRANSFORMER_WEIGHTS;
    assertEquals(names!("lora_unet_single_blocks_2_linear1.weight"), names!("single_blocks.2.linear1.weight"));
    assertEquals(names!("transformer.transformer_blocks.1.attn.to_q.weight"), `${DUAL}.attn.to_q.weight`);
  }));

Deno.test("tensors in ComfyUI's files of HunyuanVideo are those of diffusers", () =>
  inTempDir(async (dir) => {
    for (
      const [folder, convert, weights] of [
        [TINY, comfyTransformer, TRANSFORMER_WEIGHTS],
        [TINY_VAE, comfyVae, VAE_WEIGHTS],
      ] as const
    ) {
      using stored = await openCheckpoint(folder, "diffusion_pytorch_model");
      using diffusers = await openPart(folder, weights);
      const tensors = await convert(stored), file = `${dir}/comfy.safetensors`;
      await writeSafetensors(file, tensors);
      using comfy = await openPart(file, weights);
      assertEquals(comfy.names().sort(), diffusers.names().sort());
      for (const name of comfy.names()) {
        assertEquals(await readFloat32(comfy, name), await readFloat32(diffusers, name), name);
      }
      // Every name but those of the outermost convolutions and of norms differs.
      const same = Object.keys(tensors).filter((name) => diffusers.has(name));
      assertEquals(same.filter((name) => !/conv_(in|out)|quant_conv/.test(name)), []);
    }
  }));
