/** Models as loose files, as users meet them: ComfyUI's folders, and a transformer's file alone. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { openSafetensors } from "../../model/checkpoint/safetensors.ts";
import { writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { readRecord } from "../../model/video/record.ts";
import { spieceTensor, writeLoose } from "../model/checkpoint/loose_files.ts";
import { originalName, originalTextName, originalVaeName } from "../model/checkpoint/original_name.ts";
import { assertRefused, inTempDir, MODEL, tilereel } from "../process.ts";
import { clipMaker } from "./made_clip.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url).pathname;
const HEADS = { keys: ["attention_head_dim"], name: originalName };

Deno.test("generate: a folder of loose files makes the clip of the whole model, and a transformer alone is told what it lacks", () =>
  inTempDir(async (dir) => {
    const at = (name: string) => join(dir, "models", name), transformer = at("diffusion_models/wan2.1_t2v.safetensors");
    await writeLoose(MODEL, "transformer", transformer, HEADS);
    const clip = [
      "generate",
      "a red circle",
      "--size",
      "32x32",
      "--frames",
      "5",
      "--steps",
      "2",
      "--seed",
      "3",
      "--json",
    ];
    const make = clipMaker([...clip, "--guidance", "4"]);
    assertRefused(
      await tilereel([...clip, "--model", transformer]),
      `${transformer} is a transformer alone, and its vae, tokenizer and text_encoder are missing; get what is missing ` +
        `with "tilereel download Wan-AI/Wan2.1-T2V-14B-Diffusers --only vae,tokenizer,text_encoder --local-dir ` +
        `${join(dir, "models")}", or give it with --vae and --tokenizer and --text-encoder`,
    );
    await writeLoose(MODEL, "vae", at("vae/wan_2.1_vae.safetensors"), {
      ...{ name: originalVaeName, keys: ["latents_mean", "latents_std"] },
    });
    const more = { spiece_model: await spieceTensor(join(MODEL, "tokenizer/tokenizer.json")) };
    await writeLoose(MODEL, "text_encoder", at("text_encoders/umt5.safetensors"), { name: originalTextName, more });
    await Deno.copyFile(join(MODEL, "generation.json"), at("generation.json"));
    const wanted = await make(dir, "wanted", "--model", MODEL), folder = await make(dir, "folder", "--model", at(""));
    assertEquals(folder.pixels, wanted.pixels);
    const again = ["generate", "--like", join(dir, "folder.png"), "--model", at(""), "--out", join(dir, "again.png")];
    assertEquals((await tilereel(again)).err.includes("may differ"), false);
    assertEquals(await Deno.readFile(join(dir, "again.png")), await Deno.readFile(join(dir, "folder.png")));
    const info = await tilereel(["info", at("")]);
    assertStringIncludes(info.out, `Model: ${at("")} (Wan 2.1)`);
    assertStringIncludes(info.out, "text_encoder");
  }));

Deno.test("generate: a transformer's file with its other parts named makes video of a picture", () =>
  inTempDir(async (dir) => {
    const model = join(FIXTURES, "tiny_wan_i2v_pipeline"), at = (name: string) => join(dir, name);
    await writeLoose(model, "transformer", at("t/i2v.safetensors"), HEADS);
    const keys = ["num_attention_heads", "hidden_act"], name = (one: string) => `vision_model.${one}`;
    await writeLoose(model, "image_encoder", at("clip/vision.safetensors"), { keys, name });
    using source = await openSafetensors(join(model, "reference.safetensors"));
    const embeds = await Promise.all(["prompt_embeds", "negative_prompt_embeds"].map(async (name) => {
      const { dtype, shape } = source.info(name);
      return [name, { dtype, shape, data: await source.read(name) }] as const;
    }));
    await writeSafetensors(at("embeddings.safetensors"), Object.fromEntries(embeds));
    const clip = [
      "generate",
      "a cat",
      "--embeddings",
      at("embeddings.safetensors"),
      "--image",
      join(model, "first.png"),
    ];
    const make = clipMaker([...clip, "--size", "48x32", "--frames", "5", "--steps", "2", "--seed", "3", "--json"]);
    const parts = ["--vae", join(model, "vae"), "--image-encoder", at("clip/vision.safetensors")];
    const given = await make(dir, "given", "--model", at("t/i2v.safetensors"), ...parts);
    assertEquals(given.pixels, (await make(dir, "wanted", "--model", model)).pixels);
    const { imageEncoder, vae } = (await readRecord(at("given.png")))!;
    assertEquals([imageEncoder, vae], ["vision.safetensors", "vae"]);
  }));
