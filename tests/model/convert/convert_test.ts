import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import type { Gpu } from "../../../gpu/gpu.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { readFloat32, type TensorSource } from "../../../model/checkpoint/tensor_source.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { type ConvertOptions, openConversion } from "../../../model/convert/convert_model.ts";
import { TRANSFORMER_WEIGHTS } from "../../../model/hunyuan/weights.ts";
import { loraDeltas } from "../../../model/lora/lora.ts";
import { type LoadOptions, VideoPipeline } from "../../../model/pipeline.ts";
import { UMT5_WEIGHTS } from "../../../model/umt5/block.ts";
import { TRANSFORMER_WEIGHTS as WAN_WEIGHTS } from "../../../model/wan/weights.ts";
import { assertClose, testOnGpu } from "../../gpu.ts";
import { inTempDir, listFiles, MODEL } from "../../process.ts";
import { ggufBytes, type GgufTensor } from "../checkpoint/gguf_bytes.ts";
import { metadataOf, writeLoose } from "../checkpoint/loose_files.ts";
import { originalName, originalTextName } from "../checkpoint/original_name.ts";
import { comfyTransformer, comfyVae } from "../hunyuan/comfy.ts";

const HUNYUAN = new URL("../../fixtures/tiny_hunyuan_pipeline", import.meta.url).pathname;
const LORA = { file: join(MODEL, "few_steps.safetensors"), strength: 0.7 };

async function convert(model: string, target: string, options: ConvertOptions): Promise<void> {
  using conversion = await openConversion(model, options);
  let last = { done: 0, total: 1 };
  await conversion.write(target, (progress) => last = progress);
  assertEquals(last.done, last.total);
}

async function sample(
  gpu: Gpu,
  model: string,
  options: Omit<LoadOptions, "gpu"> = {},
): Promise<Uint8ClampedArray | Uint8Array> {
  const pipeline = await VideoPipeline.load(model, { gpu, ...options });
  const clip = { width: 32, height: 32, frames: 5, steps: 1, guidance: 1 };
  const { data } = await pipeline.generate({ prompt: "a red circle", ...clip });
  pipeline.close();
  return data;
}

const layers = ({ info }: { info: TensorSource["info"] }) =>
  ["blocks.1.attn1.to_q.weight", "blocks.1.ffn.net.2.weight", "proj_out.weight", "blocks.1.norm2.weight"].map((name) =>
    info(name).dtype
  );

testOnGpu("a converted model makes the clips that loading with conversion makes", (gpu) =>
  inTempDir(async (dir) => {
    const held = {
      diffusers: ["BF16", "BF16", "BF16", "BF16"],
      int8: ["I8_ROWS", "I8_ROWS", "BF16", "BF16"],
      f16: ["F16", "F16", "F16", "BF16"],
      bf16: ["BF16", "BF16", "BF16", "BF16"],
    } as const;
    for (const format of ["int8", "f16", "diffusers"] as const) {
      const target = join(dir, format), weightDtype = format === "diffusers" ? "stored" : format;
      const loras = format === "f16" ? [] : [LORA];
      await convert(MODEL, target, { gpu, format, loras });
      const wanted = await sample(gpu, MODEL, { weightDtype, adjust: loraDeltas(loras) });
      // F32 becomes f16 in int8 models, which changes what products in f32 give.
      const parts = format === "int8" && !gpu.f16 ? { text_encoder: join(MODEL, "text_encoder") } : undefined;
      assertEquals(await sample(gpu, target, { parts }), wanted, format);
      if (format === "int8") {
        assertEquals(await sample(gpu, target, { parts, weights: "stream" }), wanted);
        // Written again, it stays as it is.
        await convert(target, join(dir, "again"), { gpu, format });
        const file = "transformer/diffusion_pytorch_model.safetensors";
        assertEquals(await Deno.readFile(join(dir, "again", file)), await Deno.readFile(join(target, file)));
      }
      using source = await openPart(join(target, "transformer"), WAN_WEIGHTS);
      assertEquals(layers({ info: (name) => source.info(name) }), [...held[format]], format);
    }
    // The numbers of int8 are those of the layers, each but for half of the steps of the four that it is turned with.
    await convert(MODEL, join(dir, "plain"), { gpu, format: "int8" });
    using int8 = await openPart(join(dir, "plain/transformer"), WAN_WEIGHTS);
    using plain = await openPart(join(MODEL, "transformer"), WAN_WEIGHTS);
    const name = "blocks.7.attn2.to_v.weight", before = await readFloat32(plain, name);
    const most = before.reduce((a, b) => Math.max(a, Math.abs(b)), 0), numbers = await readFloat32(int8, name);
    assert(numbers.every((value, i) => Math.abs(value - before[i]!) <= 2 * most / 127));
    assertClose(numbers, before, 0.02, name);
    assert(listFiles(dir).every((name) => !name.includes(".part")));
  }));

testOnGpu("loose files in fp8 and GGUF become a folder with diffusers' names", (gpu) =>
  inTempDir(async (dir) => {
    const at = (name: string) => join(dir, name);
    // HunyuanVideo as ComfyUI has it: queries, keys and values in one, in fp8 with a scale for each row.
    using hunyuan = await openCheckpoint(join(HUNYUAN, "transformer"), "diffusion_pytorch_model");
    const scaled: Record<string, TensorToWrite> = {};
    for (const [name, tensor] of Object.entries(await comfyTransformer(hunyuan))) {
      const [rows = 0, columns] = tensor.shape;
      if (!/img_attn\.qkv\.weight/.test(name)) {
        scaled[name] = tensor;
        continue;
      }
      const codes = Uint8Array.from({ length: rows * columns! }, (_, i) => i % 120),
        scale = name.replace(/weight$/, "scale_weight");
      scaled[name] = { dtype: "F8_E4M3", shape: tensor.shape, data: codes };
      scaled[scale] = {
        dtype: "F32",
        shape: [rows, 1],
        data: Float32Array.from({ length: rows }, (_, i) => (i + 1) / 64),
      };
    }
    await writeSafetensors(
      at("h/hunyuan.safetensors"),
      scaled,
      await metadataOf(HUNYUAN, "transformer", ["rope_axes_dim"]),
    );
    await Deno.mkdir(at("h"), { recursive: true });
    using vae = await openCheckpoint(join(HUNYUAN, "vae"), "diffusion_pytorch_model");
    await writeSafetensors(
      at("h/vae.safetensors"),
      await comfyVae(vae),
      await metadataOf(HUNYUAN, "vae", ["norm_num_groups"]),
    );
    await convert(at("h"), at("hunyuan"), { gpu, format: "diffusers" });
    {
      using stored = await openCheckpoint(at("hunyuan/transformer"), "diffusion_pytorch_model");
      using before = await openPart(at("h/hunyuan.safetensors"), TRANSFORMER_WEIGHTS);
      using after = await openPart(at("hunyuan/transformer"), TRANSFORMER_WEIGHTS);
      assertEquals(after.names().sort(), before.names().sort());
      assert(stored.has("transformer_blocks.0.attn.to_k.weight_scale"));
      for (const name of after.names()) {
        assertEquals(await readFloat32(after, name), await readFloat32(before, name), name);
      }
    }
    // The names and shapes are those of diffusers.
    for (const part of ["transformer", "vae"]) {
      using stored = await openCheckpoint(at(`hunyuan/${part}`), "diffusion_pytorch_model");
      using own = await openCheckpoint(join(HUNYUAN, part), "diffusion_pytorch_model");
      const isScale = (name: string) => name.endsWith("weight_scale");
      const shapes = (source: TensorSource) =>
        source.names().filter((name) => !isScale(name)).sort().map((name) => [name, source.info(name).shape]);
      assertEquals(shapes(stored), shapes(own), part);
      for (const name of own.names().filter((name) => /^norm_out|to_out/.test(name))) {
        assertEquals(await stored.read(name), await own.read(name), name);
      }
    }
    const { text_encoder, transformer } = JSON.parse(await Deno.readTextFile(at("hunyuan/model_index.json")));
    assertEquals([text_encoder, transformer], [[null, null], ["diffusers", "HunyuanVideoTransformer3DModel"]]);

    // Wan with a text encoder as GGUF in F32 and Q8_0, and a tokenizer in another file.
    using encoder = await openCheckpoint(join(MODEL, "text_encoder"), "model");
    const gguf: Record<string, GgufTensor> = {};
    for (const name of encoder.names()) {
      const { shape } = encoder.info(name), values = await readFloat32(encoder, name);
      const blocks = Math.ceil(values.length / 32), isQuantised = /shared|\.q\.weight/.test(name);
      const data = isQuantised ? new Uint8Array(34 * blocks) : new Uint8Array(values.buffer);
      for (let i = 0; isQuantised && i < blocks; i++) {
        data.set(new Uint8Array(Float16Array.of(1 / 64).buffer), 34 * i);
        for (let j = 0; j < 32; j++) {
          data[34 * i + 2 + j] = Math.round(64 * values[32 * i + j]!);
        }
      }
      gguf[originalTextName(name)] = { shape, type: isQuantised ? 8 : 0, data };
    }
    const wan = at("w");
    await writeLoose(MODEL, "transformer", join(wan, "wan.safetensors"), {
      keys: ["attention_head_dim"],
      name: originalName,
    });
    await writeLoose(MODEL, "vae", join(wan, "vae.safetensors"), { keys: ["latents_mean", "latents_std"] });
    await Deno.writeFile(join(wan, "umt5.gguf"), ggufBytes(gguf));
    await Deno.mkdir(join(wan, "tokenizer"));
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
      await Deno.copyFile(join(MODEL, "tokenizer", name), join(wan, "tokenizer", name));
    }
    await convert(wan, at("wan"), { gpu, format: "int8" });
    using before = await openPart(join(wan, "umt5.gguf"), UMT5_WEIGHTS);
    using after = await openPart(at("wan/text_encoder"), UMT5_WEIGHTS);
    const dtypes = ["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"].map((name) =>
      after.info(name).dtype
    );
    assertEquals([...dtypes, after.info("encoder.block.0.layer.1.DenseReluDense.wo.weight").dtype], [
      "F16",
      "F16",
      "F32",
    ]);
    for (const name of ["shared.weight", "encoder.block.1.layer.0.SelfAttention.q.weight"]) {
      assertEquals(await readFloat32(after, name), await readFloat32(before, name), name);
    }
    assertEquals((await sample(gpu, at("wan"))).length, 5 * 32 * 32 * 3);
  }));

testOnGpu("a conversion that is ended leaves nothing behind", (gpu) =>
  inTempDir(async (dir) => {
    using conversion = await openConversion(MODEL, { gpu, format: "bf16" });
    const ending = new AbortController(), reason = new Error("ended");
    const written = conversion.write(join(dir, "out"), () => ending.abort(reason), ending.signal);
    await assertRejects(() => written, Error, "ended");
    assertEquals(listFiles(dir), []);
  }));
