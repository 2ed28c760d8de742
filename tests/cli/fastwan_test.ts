/** FastWan's folders as users meet them: a tiny one, made of the demo model with gates that nothing has trained. */
import { assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { decode as decodePng } from "fast-png";
import { join } from "node:path";
import { distilledIn } from "../../model/checkpoint/model_folder.ts";
import { openSafetensors } from "../../model/checkpoint/safetensors.ts";
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import { type TensorToWrite, writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { readRecord } from "../../model/video/record.ts";
import { randn } from "../gpu.ts";
import { inTempDir, MODEL, tilereel } from "../process.ts";
import { clipMaker } from "./made_clip.ts";

/** FastVideo keeps the gate of self-attention beside its other layers. */
const GATE = "to_gate_compress";

/** With a flow shift for the clips below, over which the distilled one counts. */
const GENERATION = {
  ...{ text_tokens: 32, fps: 16 },
  trained: [{ width: 128, height: 64, frames: 13, flow_shift: 2 }],
};

/** @returns its folder */
async function writeFastWan(dir: string): Promise<string> {
  const folder = join(dir, "FastWan");
  await Deno.mkdir(join(folder, "transformer"), { recursive: true });
  for (const part of ["scheduler", "text_encoder", "tokenizer", "vae"]) {
    await Deno.symlink(join(MODEL, part), join(folder, part));
  }
  const index = JSON.parse(await Deno.readTextFile(join(MODEL, "model_index.json")));
  const { scheduler, text_encoder, tokenizer, transformer, vae } = index;
  const own = { _class_name: "WanDMDPipeline", _diffusers_version: "0.33.0.dev0" };
  const parts = { ...own, scheduler, text_encoder, tokenizer, transformer, vae };
  await Deno.writeTextFile(join(folder, "model_index.json"), JSON.stringify(parts));
  await Deno.writeTextFile(join(folder, "generation.json"), JSON.stringify(GENERATION));
  await Deno.copyFile(join(MODEL, "transformer/config.json"), join(folder, "transformer/config.json"));
  using source = await openCheckpoint(join(MODEL, "transformer"), "diffusion_pytorch_model");
  const tensors: Record<string, TensorToWrite> = {};
  for (const name of source.names()) {
    const { dtype, shape } = source.info(name);
    tensors[name] = { dtype, shape, data: await source.read(name) };
    const [, block] = /^(blocks\.\d+\.)attn1\.to_q\.weight$/.exec(name) ?? [];
    if (block === undefined) continue;
    const [dim = 0] = shape, seed = Object.keys(tensors).length;
    tensors[`${block}${GATE}.weight`] = { dtype: "F32", shape: [dim, dim], data: randn(dim * dim, seed, 0.05) };
    tensors[`${block}${GATE}.bias`] = { dtype: "F32", shape: [dim], data: randn(dim, seed + 1, 0.5) };
  }
  await writeSafetensors(join(folder, "transformer/diffusion_pytorch_model.safetensors"), tensors);
  return folder;
}

Deno.test("FastWan: three steps without guidance, video sparse attention with its gate, repeated by --like", () =>
  inTempDir(async (dir) => {
    const folder = await writeFastWan(dir);
    const clip = ["generate", "a red circle", "--model", folder, "--size", "128x64", "--frames", "13", "--seed", "3"];
    const file = join(dir, "fast.png"), make = clipMaker([...clip, "--json"]);
    const told = await tilereel([...clip, "--json", "--out", file]);
    assertEquals(told.code, 0, told.err);
    assertStringIncludes(told.err, "FastWan was trained with video sparse attention at a sparsity of 0.8");
    const record = (await readRecord(file))!;
    const { steps, guidance, scheduler, sigmas, flowShift, attention, sparsity, density } = record;
    // 4 × 4 × 8 tokens are two tiles, of which ⌈0.2 · 2⌉ is kept.
    assertEquals({ steps, guidance, scheduler, sigmas, flowShift, attention, sparsity, density }, {
      ...{ steps: 3, guidance: 1, scheduler: "dmd", sigmas: [1, 0.28, 0.12], flowShift: 8 },
      ...{ attention: "vsa", sparsity: 0.8, density: 0.5 },
    });
    const again = ["generate", "--like", file, "--out", join(dir, "again.png")];
    const { code, err } = await tilereel([...again, "--model", folder]);
    assertEquals(code, 0, err);
    assertEquals(await Deno.readFile(join(dir, "again.png")), await Deno.readFile(file));

    const streamed = await make(dir, "streamed", "--weights", "stream"), whole = decodePng(await Deno.readFile(file));
    assertEquals(streamed.pixels, new Uint8Array(whole.data));
    // Another number of steps has the levels of an ordinary model.
    const all = await make(dir, "all", "--sparsity", "0.4", "--steps", "2");
    const full = await make(dir, "full", "--attention", "full", "--steps", "2");
    assertEquals([all.attention, all.density, full.attention, full.density], ["vsa", 1, "full", 1]);
    assertNotEquals(all.pixels, full.pixels);
    const two = (await readRecord(join(dir, "all.png")))!;
    assertEquals([two.steps, two.scheduler, two.sigmas, two.flowShift], [2, "dmd", "diffusers", 8]);

    const info = await tilereel(["info", folder]);
    assertStringIncludes(
      info.out,
      "distilled: FastWan, scheduler dmd, sigmas 1,0.28,0.12, flow shift 8, attention vsa at a sparsity of 0.8",
    );
    assertStringIncludes(info.out, "3 steps, guidance 1");
  }));

Deno.test("vsa on a model without gates: the coarse part is left out, and a note says so", () =>
  inTempDir(async (dir) => {
    const clip = ["generate", "a red circle", "--size", "128x64", "--frames", "13", "--steps", "1", "--guidance", "1"];
    const { code, err } = await tilereel([...clip, "--attention", "vsa", "--out", join(dir, "a.png")]);
    assertEquals(code, 0, err);
    assertStringIncludes(err, "this model has no gates (to_gate_compress) for video sparse attention");
    const stray = await tilereel([...clip, "--sparsity", "0.5", "--out", join(dir, "b.png")]);
    assertEquals(stray.code, 1);
    assertStringIncludes(stray.err, "--sparsity has no effect with --attention full");
  }));

Deno.test("FastWan's sparsity is that of its size", () =>
  inTempDir(async (dir) => {
    await Deno.mkdir(join(dir, "transformer"));
    const index = { _class_name: "WanDMDPipeline", transformer: ["diffusers", "WanTransformer3DModel"] };
    await Deno.writeTextFile(join(dir, "model_index.json"), JSON.stringify(index));
    for (const [layers, sparsity] of [[30, 0.8], [40, 0.9]]) {
      await Deno.writeTextFile(join(dir, "transformer/config.json"), JSON.stringify({ num_layers: layers }));
      assertEquals((await distilledIn(dir))!.sparsity, sparsity);
    }
  }));

Deno.test("FastWan 2.2 5B: three steps of text to video with full attention, without pictures", () =>
  inTempDir(async (dir) => {
    const fixture = new URL("../fixtures/tiny_wan_ti2v_pipeline/", import.meta.url).pathname,
      folder = join(dir, "model");
    await Deno.mkdir(folder);
    for (const part of ["transformer", "vae", "scheduler"]) await Deno.symlink(join(fixture, part), join(folder, part));
    const index = JSON.parse(await Deno.readTextFile(join(fixture, "model_index.json")));
    await Deno.writeTextFile(
      join(folder, "model_index.json"),
      JSON.stringify({ ...index, _class_name: "WanDMDPipeline" }),
    );
    using source = await openSafetensors(join(fixture, "reference.safetensors"));
    const { dtype, shape } = source.info("prompt_embeds"), data = await source.read("prompt_embeds");
    await writeSafetensors(join(dir, "embeddings.safetensors"), { prompt_embeds: { dtype, shape, data } });
    const clip = [
      "generate",
      "a cat",
      "--model",
      folder,
      "--embeddings",
      join(dir, "embeddings.safetensors"),
      "--json",
    ];
    const size = ["--size", "64x32", "--frames", "5", "--seed", "3", "--out", join(dir, "a.png")];
    const made = await tilereel([...clip, ...size]);
    assertEquals(made.code, 0, made.err);
    const { steps, guidance, scheduler, sigmas, attention } = JSON.parse(made.out);
    assertEquals([steps, guidance, scheduler, sigmas, attention], [3, 1, "dmd", [1, 0.28, 0.12], "full"]);
    const pictured = await tilereel([...clip, ...size, "--image", join(fixture, "first.png")]);
    assertStringIncludes(pictured.err, "a model of FastWan 2.2 5B takes no picture");
  }));
