import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { SHAPES } from "../../bench/shapes.ts";
import { drySource } from "../../bench/full_size/made_source.ts";
import { clipNeeds } from "../../cli/info/clip_needs.ts";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import { Gpu } from "../../gpu/gpu.ts";
import { knownGpu } from "../../model/estimate/gpus.ts";
import { writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { assertRefused, inTempDir, MODEL, ROOT, tilereel } from "../process.ts";

Deno.test("info says of any file what it is, and which option takes it", () =>
  inTempDir(async (dir) => {
    const flux = join(dir, "flux.safetensors"),
      weight = { dtype: "F32" as const, shape: [1], data: new Float32Array(1) };
    await writeSafetensors(flux, { "double_blocks.0.img_attn.qkv.weight": weight });
    const tiny = join(ROOT, "tests/fixtures/tiny_taehv/a.safetensors");
    const files: [path: string, is: string, use: string][] = [
      [join(MODEL, "few_steps.safetensors"), "a LoRA", "--lora FILE"],
      [join(MODEL, "router.safetensors"), "a router of VORTA", "--router FILE"],
      [join(MODEL, "tiles.safetensors"), "tiles of Veda", "--tiles FILE"],
      [join(MODEL, "vae/diffusion_pytorch_model.safetensors"), "a VAE", "--vae FILE"],
      [tiny, "a tiny autoencoder (TAEHV) for latents of 16 channels", "--preview-vae FILE"],
      [flux, "a Flux or HunyuanVideo transformer", ""],
    ];
    for (const [path, is, use] of files) {
      const { out, code } = await tilereel(["info", path]);
      assertEquals(code, 0);
      assertStringIncludes(out, `${path} is ${is}.`);
      assertStringIncludes(out, use);
    }
    assertRefused(await tilereel(["info", join(ROOT, "README.md")]), "README.md is a text file that begins");
  }));

Deno.test("info counts the memory that a model's clips take on the adapter", async () => {
  const { out } = await tilereel(["info", MODEL, "--json"]), { model: { needs } } = JSON.parse(out);
  const sizes = needs.map(({ width, height, precision }: Record<string, unknown>) => `${width}x${height} ${precision}`);
  assert(sizes.length === new Set(sizes).size && sizes.includes("128x128 int8") && sizes.length >= 4, `${sizes}`);
  const { out: text } = await tilereel(["info", MODEL]);
  assertStringIncludes(text, "flow shift: 5 for clips to which 512x512 with 61 frames is the nearest trained size\n");
  for (const { memory: { resident, stream } } of needs) assert(resident > stream && stream > 10e6);
});

Deno.test("info: large models are counted at the usual sizes, and timed where the GPU is known", async () => {
  const dry = dryGpu({ precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS });
  const named = (name: string) => {
    const description = { ...dry.settings.description, name, features: ["shader-f16"] };
    return new Gpu(dry.device, { ...dry.settings, description });
  };
  assertEquals(knownGpu(named("a card of tomorrow")), undefined);
  const model = SHAPES["1.3b"].model(drySource, { stored: "F32" });
  const needs = await clipNeeds(named("NVIDIA H200"), model, "auto");
  assertEquals(needs.map(({ width, precision }) => [width, precision]), [
    ...[[832, "f16"], [832, "int8"]],
    ...[[1280, "f16"], [1280, "int8"]],
  ]);
  const [f16, int8] = needs;
  assert(f16!.memory.resident! < 8e9 && f16!.memory.stream! < f16!.memory.resident!);
  // README's table has 1.9 minutes, from the same rates.
  assert(f16!.seconds! > 100 && f16!.seconds! < 150 && int8!.seconds! < f16!.seconds!, `${f16!.seconds} s`);
});
