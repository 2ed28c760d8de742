import { assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openSafetensors } from "../../../model/checkpoint/safetensors.ts";
import { whatTensorsAre } from "../../../model/checkpoint/tensor_names.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { HUNYUAN } from "../../../model/hunyuan/family.ts";
import { type LoraUpdate, readLora } from "../../../model/lora/lora_file.ts";
import { WAN } from "../../../model/wan/family.ts";
import { inTempDir } from "../../process.ts";

const f32 = (shape: readonly number[], ...data: number[]) =>
  ({ dtype: "F32", shape, data: Float32Array.from(data) }) as const;

Deno.test("a LoRA of a fused layer becomes updates of its parts; metadata and .alpha scale it", () =>
  inTempDir(async (dir) => {
    const file = `${dir}/fused.safetensors`;
    await writeSafetensors(file, {
      "qkv.lora_A.weight": f32([1, 2], 5, 6),
      "qkv.lora_B.weight": f32([4, 1], 1, 2, 3, 4),
      "qkv.diff_b": f32([4], 7, 8, 9, 10),
      "other.lora_down.weight": f32([2, 1], 1, 2),
      "other.lora_up.weight": f32([1, 2], 3, 4),
      "other.alpha": f32([1], 8),
    }, { lora_adapter_metadata: JSON.stringify({ "transformer.lora_alpha": 3, "transformer.r": 6 }) });
    const names = (stored: string) => {
      const [layer, ending] = stored.split(".");
      return layer === "qkv" ? [{ name: `q.${ending}` }, { name: `kv.${ending}`, share: 3 }] : stored;
    };
    assertEquals(await plainUpdates(file, { name: "Toy", parts: { transformer: { weights: { stem: "", names } } } }), {
      transformer: {
        "q.weight": [[[1, 2], [1], [5, 6], 0.5]],
        "kv.weight": [[[3, 2], [2, 3, 4], [5, 6], 0.5]],
        "q.bias": [[[1], [7]]],
        "kv.bias": [[[3], [8, 9, 10]]],
        "other.weight": [[[1, 1], [3, 4], [1, 2], 4]],
      },
    });
  }));

/** The updates of each weight, by parts. */
async function plainUpdates(file: string, family: Parameters<typeof readLora>[1]) {
  const plain = (update: LoraUpdate) =>
    "up" in update ? [update.shape, [...update.up], [...update.down], update.scale] : [update.shape, [...update.data]];
  const ofParts = [...await readLora(file, family)].map(([part, updates]) => [
    part,
    Object.fromEntries([...updates].map(([name, all]) => [name, all.map(plain)])),
  ]);
  return Object.fromEntries(ofParts);
}

const factors = (layer: string, up: number) => ({
  [`${layer}.lora_A.weight`]: f32([1, 1], 1),
  [`${layer}.lora_B.weight`]: f32([1, 1], up),
});
const kohya = (layer: string, up: number) => ({
  [`${layer}.lora_down.weight`]: f32([1, 1], 1),
  [`${layer}.lora_up.weight`]: f32([1, 1], up),
});

Deno.test("a LoRA changes the parts that its keys name; what is for one weight adds up", () =>
  inTempDir(async (dir) => {
    const file = `${dir}/parts.safetensors`;
    await writeSafetensors(file, {
      ...factors("transformer.transformer_blocks.0.attn.to_q", 2),
      ...kohya("lora_unet_transformer_blocks_0_attn_to_q", 3),
      "transformer_blocks.0.attn.to_q.diff": f32([1, 1], 4),
      ...factors("text_encoder.layers.1.self_attn.q_proj", 5),
      ...kohya("lora_te1_model_layers_1_mlp_down_proj", 6),
      ...factors("text_encoder_2.text_model.encoder.layers.2.self_attn.out_proj", 7),
      ...kohya("lora_te2_text_model_encoder_layers_2_mlp_fc1", 8),
    }, { lora_adapter_metadata: JSON.stringify({ "text_encoder.lora_alpha": 4, "text_encoder.r": 2 }) });
    const of = (up: number, scale = 1) => [[1, 1], [up], [1], scale];
    assertEquals(await plainUpdates(file, HUNYUAN), {
      transformer: { "transformer_blocks.0.attn.to_q.weight": [of(3), of(2), [[1, 1], [4]]] },
      text_encoder: {
        "layers.1.self_attn.q_proj.weight": [of(5, 2)],
        "layers.1.mlp.down_proj.weight": [of(6, 2)],
      },
      text_encoder_2: {
        "encoder.layers.2.self_attn.out_proj.weight": [of(7)],
        "encoder.layers.2.mlp.fc1.weight": [of(8)],
      },
    });
    const message = "changes text_encoder_2, which models of Wan do not have; use a LoRA that was made for them";
    await assertRejects(() => readLora(file, WAN), TilereelError, message);
  }));

Deno.test("a LoRA of two transformers is for the one that its name says, or for both", () =>
  inTempDir(async (dir) => {
    const family = { ...WAN, parts: { ...WAN.parts, transformer_2: WAN.parts.transformer! } };
    const update = { "blocks.0.attn1.to_q.weight": [[[1, 1], [2], [1], 1]] };
    for (
      const [name, parts] of [
        ["style", ["transformer", "transformer_2"]],
        ["x_high_noise_4steps", ["transformer"]],
        ["Wan-LowNoise", ["transformer_2"]],
      ] as const
    ) {
      const file = `${dir}/${name}.safetensors`;
      await writeSafetensors(file, factors("diffusion_model.blocks.0.self_attn.q", 2));
      assertEquals(await plainUpdates(file, family), Object.fromEntries(parts.map((part) => [part, update])));
    }
  }));

Deno.test("a LoRA of Wan's tables and of UMT5, in other programs' names", () =>
  inTempDir(async (dir) => {
    const file = `${dir}/wan.safetensors`;
    await writeSafetensors(file, {
      "diffusion_model.blocks.0.modulation.diff": f32([1], 1),
      "head.modulation.diff": f32([1], 2),
      ...kohya("lora_te_encoder_block_0_layer_0_SelfAttention_q", 3),
      ...factors("text_encoder.blocks.1.ffn.gate.0", 4),
    });
    assertEquals(await plainUpdates(file, WAN), {
      transformer: { "blocks.0.scale_shift_table": [[[1], [1]]], scale_shift_table: [[[1], [2]]] },
      text_encoder: {
        "encoder.block.0.layer.0.SelfAttention.q.weight": [[[1, 1], [3], [1], 1]],
        "encoder.block.1.layer.1.DenseReluDense.wi_0.weight": [[[1, 1], [4], [1], 1]],
      },
    });
  }));

Deno.test("a LoRA with half a layer, the same twice, or another kind of update is refused", () =>
  inTempDir(async (dir) => {
    const file = `${dir}/damaged.safetensors`;
    const refused = async (tensors: Parameters<typeof writeSafetensors>[1], message: string) => {
      await writeSafetensors(file, tensors);
      await assertRejects(() => readLora(file, WAN), TilereelError, message);
    };
    await refused({ "x.alpha": f32([1], 1) }, 'has "x.alpha", but not both factors of that layer: it is damaged');
    await refused({ "x.lora_A.weight": f32([1, 1], 1) }, 'has "x.lora_A.weight", but not both factors of that layer');
    await refused({ ...factors("x", 1), ...kohya("x", 1) }, "is the same: it is damaged");
    await refused({ "x.lokr_w1": f32([1, 1], 1) }, "is a LoKr, which is not supported: use a LoRA");
    using source = await openSafetensors(file);
    assertEquals(whatTensorsAre(source), "a LoKr, which is not supported");
  }));
