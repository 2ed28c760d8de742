import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { Config } from "../../../model/checkpoint/json.ts";
import { openModel, openModelFolder } from "../../../model/checkpoint/model_folder.ts";
import { loadTokenizer } from "../../../model/tokenizer/tokenizer.ts";
import { readVaeConfig } from "../../../model/wan/vae/config.ts";
import { inTempDir, MODEL } from "../../process.ts";
import { comfyTransformer, comfyVae } from "../hunyuan/comfy.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { metadataOf, spieceTensor, writeLoose } from "./loose_files.ts";
import { originalName, originalTextName, originalVaeName } from "./original_name.ts";

const fixture = (name: string) => new URL(`../../fixtures/${name}`, import.meta.url).pathname;
const HEADS = { keys: ["attention_head_dim"] }, LATENTS = { keys: ["latents_mean", "latents_std"] };

/** A config without what only other programs read, and with null for what is absent. */
async function valuesOf(folder: string, part: string, like: readonly string[]): Promise<Record<string, unknown>> {
  const { values } = await Config.read(join(folder, part, "config.json"));
  return Object.fromEntries(like.map((key) => [key, values[key] ?? null]));
}

/** Checks that the parts' configurations say what those of the model in the diffusers layout say. */
async function checkConfigs(place: string, model: string, parts: readonly string[]): Promise<void> {
  const folder = await openModelFolder(place);
  for (const part of parts) {
    const { values } = await Config.read((await folder.component(part)).file("config.json"));
    const said = Object.fromEntries(Object.entries(values).map(([key, value]) => [key, value ?? null]));
    // A base that is absent is that of the encoder.
    const { decoder_base_dim: base, ...wanted } = await valuesOf(model, part, Object.keys(said));
    const ownBase = said.decoder_base_dim === null ? null : base ?? said.base_dim;
    assertEquals(said, { ...wanted, ..."decoder_base_dim" in said && { decoder_base_dim: ownBase } }, part);
  }
  using _opened = await openModel(place);
}

Deno.test("ComfyUI's folders of image to video: configurations come from shapes, a pair of VAEs must be told apart", () =>
  inTempDir(async (dir) => {
    const model = fixture("tiny_wan_i2v_pipeline"), at = (name: string) => join(dir, "models", name);
    await writeLoose(model, "transformer", at("diffusion_models/wan/i2v_480p.safetensors"), {
      ...{ ...HEADS, name: originalName },
    });
    const file = at("diffusion_models/wan/i2v_480p.safetensors");
    await assertRejects(
      () => openModelFolder(file),
      TilereelError,
      "and its vae, tokenizer, text_encoder and image_encoder",
    );
    await writeLoose(model, "vae", at("vae/wan_2.1_vae.safetensors"));
    await writeLoose(model, "image_encoder", at("clip_vision/clip_vision_h.safetensors"), {
      ...{ name: (name) => `vision_model.${name}`, keys: ["num_attention_heads", "hidden_act"] },
    });
    // The VAE of another model is none of it.
    await writeLoose(fixture("tiny_wan_ti2v_pipeline"), "vae", at("vae/wan2.2_vae.safetensors"));
    await Deno.writeTextFile(at("vae/notes.txt"), "not one");
    for (const place of [dir, at(""), file]) {
      await checkConfigs(place, model, ["transformer", "vae", "image_encoder"]);
    }
    const folder = await openModelFolder(file);
    assertEquals([folder.family.name, folder.path], ["Wan 2.1 I2V", file]);
    await assertRejects(
      () => folder.component("text_encoder"),
      TilereelError,
      "its tokenizer and text_encoder are missing",
    );
    // With a second VAE of the same kind, one must be chosen; a given one is.
    await Deno.copyFile(at("vae/wan_2.1_vae.safetensors"), at("vae/other.safetensors"));
    await assertRejects(() => openModelFolder(dir), TilereelError, "several files could be the vae");
    await openModelFolder(dir, { vae: at("vae/other.safetensors") });
    // Two transformers are two models.
    await Deno.copyFile(file, at("unet.safetensors"));
    await assertRejects(
      () => openModelFolder(at("")),
      TilereelError,
      "holds several transformers, unet.safetensors and i2v",
    );
  }));

Deno.test("the two transformers of A14B are a pair by their names, in ComfyUI's folder and in Wan's own", () =>
  inTempDir(async (dir) => {
    const model = fixture("tiny_wan_a14b_pipeline"), parts = ["transformer", "transformer_2", "vae"];
    const at = (noise: string) => join(dir, `diffusion_models/wan2.2_i2v_${noise}_noise_14B.safetensors`);
    const options = { ...HEADS, name: originalName };
    await writeLoose(model, "transformer", at("high"), options);
    await writeLoose(model, "vae", join(dir, "vae/vae.safetensors"));
    await assertRejects(
      () => openModelFolder(dir),
      TilereelError,
      "is one of the two transformers of Wan 2.2 I2V A14B",
    );
    await writeLoose(model, "transformer_2", at("low"), options);
    for (const place of [dir, at("high"), at("low")]) {
      const folder = await openModelFolder(place);
      assertEquals([folder.family.name, folder.generation.guidanceLow], ["Wan 2.2 I2V A14B", 3.5]);
      assertEquals((await folder.component("transformer")).path, at("high"));
      assertEquals((await folder.component("transformer_2")).path, at("low"));
      await checkConfigs(place, model, parts);
    }
    const own = join(dir, "own"), original = { dim: 64, num_heads: 2, _class_name: "WanModel" };
    for (const [part, folder] of [["transformer", "high_noise_model"], ["transformer_2", "low_noise_model"]] as const) {
      const file = join(own, folder, "diffusion_pytorch_model.safetensors");
      await writeLoose(model, part, file, { name: originalName });
      await Deno.writeTextFile(join(own, folder, "config.json"), JSON.stringify(original));
    }
    await writeLoose(model, "vae", join(own, "vae.safetensors"));
    await checkConfigs(own, model, parts);
  }));

Deno.test("TI2V 5B's VAE and sharded weights are found in one folder", () =>
  inTempDir(async (dir) => {
    const model = fixture("tiny_wan_ti2v_pipeline");
    await writeLoose(model, "transformer", join(dir, "a-00001-of-00001.safetensors"), { name: originalName });
    const weight_map = Object.fromEntries(
      await openCheckpoint(join(dir, "a-00001-of-00001.safetensors"), "").then((source) => {
        using opened = source;
        return opened.names().map((name) => [name, "a-00001-of-00001.safetensors"]);
      }),
    );
    const index = join(dir, "diffusion_pytorch_model.safetensors.index.json");
    await Deno.writeTextFile(index, JSON.stringify({ weight_map }));
    await Deno.writeTextFile(join(dir, "config.json"), JSON.stringify({ _class_name: "WanModel", num_heads: 2 }));
    await writeLoose(model, "vae", join(dir, "wan2.2_vae.safetensors"), LATENTS);
    await checkConfigs(dir, model, ["transformer", "vae"]);
    assertEquals((await openModelFolder(dir)).family.name, "Wan 2.2 TI2V 5B");
  }));

Deno.test("text encoders bring their tokenizer, and folders of parts in the diffusers layout are used beside files", () =>
  inTempDir(async (dir) => {
    const encoder = join(dir, "text_encoders/umt5.safetensors");
    await writeLoose(MODEL, "transformer", join(dir, "wan.safetensors"), { ...HEADS, name: originalName });
    await writeLoose(MODEL, "vae", join(dir, "vae/wan_vae.safetensors"), { ...LATENTS, name: originalVaeName });
    const more = { spiece_model: await spieceTensor(join(MODEL, "tokenizer/tokenizer.json")) };
    await writeLoose(MODEL, "text_encoder", encoder, { name: originalTextName, more });
    await checkConfigs(dir, MODEL, ["transformer", "vae", "text_encoder"]);
    assertEquals(await readVaeConfig(join(MODEL, "vae/config.json")), {
      ...await readVaeConfig((await (await openModelFolder(dir)).component("vae")).file("config.json")),
    });
    const folder = await openModelFolder(dir), text = "a small blue circle, moving right";
    const tokens = async (
      place: Awaited<ReturnType<typeof folder.component>>,
    ) => [...(await loadTokenizer(place)).encode(text, 32).ids];
    const wanted = await tokens(await (await openModelFolder(MODEL)).component("tokenizer"));
    assertEquals(await tokens(await folder.component("tokenizer")), wanted);
    // A text encoder that is named brings its own, too.
    await Deno.rename(encoder, join(dir, "elsewhere.st"));
    const given = await openModelFolder(dir, { text_encoder: join(dir, "elsewhere.st") });
    assertEquals(await tokens(await given.component("tokenizer")), wanted);
    assertEquals((await Config.read((await given.component("text_encoder")).file("config.json"))).value("d_kv"), 32);
    await assertRejects(() => folder.component("image_encoder"), TilereelError);
    for (const part of ["tokenizer", "text_encoder", "vae", "scheduler"]) {
      await Deno.remove(join(dir, part), { recursive: true }).catch(() => {});
      await Deno.symlink(join(MODEL, part), join(dir, part));
    }
    await checkConfigs(dir, MODEL, ["transformer", "vae", "text_encoder"]);
    assertEquals((await (await openModelFolder(dir)).component("vae")).path, join(dir, "vae"));
  }));

Deno.test("HunyuanVideo's files are found by their names' layouts", () =>
  inTempDir(async (dir) => {
    const model = fixture("tiny_hunyuan_pipeline");
    using transformer = await openCheckpoint(join(model, "transformer"), "diffusion_pytorch_model");
    using vae = await openCheckpoint(join(model, "vae"), "diffusion_pytorch_model");
    for (const folder of ["unet", "vae"]) await Deno.mkdir(join(dir, folder));
    await writeSafetensors(join(dir, "unet/hunyuan.safetensors"), await comfyTransformer(transformer), {
      ...await metadataOf(model, "transformer", ["rope_axes_dim"]),
    });
    await writeSafetensors(
      join(dir, "vae/vae.safetensors"),
      await comfyVae(vae),
      await metadataOf(model, "vae", ["norm_num_groups"]),
    );
    await writeLoose(model, "text_encoder", join(dir, "text_encoders/llava.safetensors"), {
      ...{ name: (name) => `language_model.model.${name}`, keys: ["head_dim"] },
    });
    await writeLoose(model, "text_encoder_2", join(dir, "text_encoders/clip_l.safetensors"), {
      ...{ name: (name) => `text_model.${name}`, keys: ["num_attention_heads"] },
    });
    const folder = await openModelFolder(dir);
    assertEquals(folder.family.name, "HunyuanVideo");
    await checkConfigs(dir, model, ["transformer", "vae"]);
    for (
      const [part, keys] of [
        ["text_encoder", [
          "vocab_size",
          "hidden_size",
          "num_attention_heads",
          "num_key_value_heads",
          "intermediate_size",
        ]],
        ["text_encoder_2", ["vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "hidden_act"]],
      ] as const
    ) {
      const { values } = await Config.read((await folder.component(part)).file("config.json"));
      const wanted = await valuesOf(model, part, [...keys, "num_hidden_layers"]);
      assertEquals(Object.fromEntries(Object.keys(wanted).map((key) => [key, values[key]])), wanted);
    }
    await assertRejects(
      () => folder.component("tokenizer"),
      TilereelError,
      "its tokenizer and tokenizer_2 are missing",
    );
  }));

Deno.test("what is damaged among loose files is said in one sentence, unless the model does without it", () =>
  inTempDir(async (dir) => {
    const model = fixture("tiny_wan_ti2v_pipeline"), at = (name: string) => join(dir, name);
    const refused = async (place: string, message: string) => {
      const error = await openModelFolder(place).then(() => undefined, (error) => error);
      assert(error instanceof TilereelError && error.message.includes(message), String(error));
      assert(!/\n|[.?!] /.test(error.message), error.message);
    };
    await writeLoose(model, "transformer", at("wan.safetensors"), { ...HEADS, name: originalName });
    const whole = await Deno.readFile(at("wan.safetensors"));
    await Deno.writeFile(at("wan.safetensors"), whole.subarray(0, whole.length - 100));
    for (const place of [dir, at("wan.safetensors")]) await refused(place, "wan.safetensors is truncated: it has");
    await Deno.writeFile(at("wan.safetensors"), whole);
    await writeLoose(model, "vae", at("vae.safetensors"), LATENTS);
    const vae = await Deno.readFile(at("vae.safetensors"));
    await Deno.writeFile(at("vae.safetensors"), vae.subarray(0, 1000));
    await refused(dir, "vae.safetensors is truncated: it has");
    // A header that says it has more tensors than the file, and one that is no header.
    await Deno.writeFile(at("vae.safetensors"), new Uint8Array([...new Uint8Array(8).fill(255), ...vae.subarray(8)]));
    await refused(dir, "vae.safetensors");
    await Deno.writeFile(at("vae.safetensors"), vae);
    await Deno.writeFile(at("broken.gguf"), new TextEncoder().encode("GGUF and nothing else"));
    await openModelFolder(dir);
    // One tensor less.
    await writeSafetensors(at("wan.safetensors"), {
      "patch_embedding.weight": { dtype: "F32", shape: [4, 4], data: new Float32Array(16) },
    });
    await refused(at("wan.safetensors"), 'is a safetensors file with the tensor "patch_embedding.weight" alone');
    const others = {
      "blocks.0.self_attn.q.weight": [4, 4],
      "time_projection.1.weight": [24, 4],
      "patch_embedding.weight": [4],
    };
    const tensors = Object.entries(others).map(([name, shape]) => {
      const data = new Float32Array(shape.reduce((a, b) => a * b));
      return [name, { dtype: "F32", shape, data }] as const;
    });
    await writeSafetensors(at("wan.safetensors"), Object.fromEntries(tensors));
    await refused(at("wan.safetensors"), 'wan.safetensors holds no tensor "');
  }));
