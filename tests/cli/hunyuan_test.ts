/** HunyuanVideo's folders as users meet them: the tiny one of tests/fixtures, whose weights are random. */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import type { TensorSource } from "../../model/checkpoint/tensor_source.ts";
import { openSafetensors } from "../../model/checkpoint/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { loadVeda } from "../../model/veda/veda_file.ts";
import { readRecord } from "../../model/video/record.ts";
import { randn } from "../gpu.ts";
import { inTempDir, ROOT, tilereel } from "../process.ts";
import { comfyTransformer, comfyVae } from "../model/hunyuan/comfy.ts";
import { clipMaker } from "./made_clip.ts";

const FOLDER = join(ROOT, "tests/fixtures/tiny_hunyuan_pipeline");
/** Clips of 2×2×4 tokens, beside 192 of text. */
const SIZE = ["--model", FOLDER, "--size", "64x32", "--frames", "5"];
const PROMPT = "A red circle runs through water";
const CLIP = ["generate", PROMPT, ...SIZE, "--steps", "2", "--seed", "3"];

const make = clipMaker([...CLIP, "--json"]);

/** Runs a command that must succeed, and returns what it says. */
async function ran(dir: string, ...args: string[]): Promise<string> {
  const { code, out, err } = await tilereel(args, { cwd: dir });
  assertEquals(code, 0, err);
  return out;
}

/** Routers in the authors' names that send a third of the heads to each branch. */
async function writeRouter(file: string): Promise<void> {
  const tensors: Record<string, TensorToWrite> = {};
  for (const [layer, name] of ["transformer_blocks.0", "single_transformer_blocks.0"].entries()) {
    const numbers = (kind: string, shape: number[], data: Float32Array) =>
      tensors[`${name}.router.linear.${kind}`] = { dtype: "F32", shape, data };
    numbers("weight", [6, 64], randn(6 * 64, layer, 0.01));
    // Scores of each head for full attention, core-set and sliding tiles.
    numbers("bias", [6], Float32Array.of(0, 0, 0, 0, 0, 0).with(layer, 3).with(3 + 2 - layer, 3));
  }
  await writeSafetensors(file, tensors);
}

Deno.test("HunyuanVideo: info tells its parts and defaults", async () => {
  const out = await ran(ROOT, "info", FOLDER);
  for (const part of ["transformer ", "vae ", "text_encoder ", "text_encoder_2 "]) {
    assertStringIncludes(out, `  ${part}`);
  }
  assertStringIncludes(out, "defaults: 1280x720, 129 frames at 24 fps, 50 steps, guidance 6, 256 text tokens");
});

Deno.test("HunyuanVideo: clips in two formats, with their records, repeated by --like", () =>
  inTempDir(async (dir) => {
    for (const name of ["a.mp4", "a.gif"]) {
      await ran(dir, ...CLIP, "--out", name);
      const { steps, guidance, scheduler, sigmas, flowShift, width, height, frames, fps } =
        (await readRecord(join(dir, name)))!;
      assertEquals({ steps, guidance, scheduler, sigmas, flowShift, width, height, frames, fps }, {
        ...{ steps: 2, guidance: 6, scheduler: "euler", sigmas: "hunyuan", flowShift: 7 },
        ...{ width: 64, height: 32, frames: 5, fps: 24 },
      });
    }
    await ran(dir, "generate", "--like", "a.gif", "--model", FOLDER, "--out", "b.gif");
    assertEquals(await Deno.readFile(join(dir, "b.gif")), await Deno.readFile(join(dir, "a.gif")));
  }));

Deno.test("HunyuanVideo: prompt, guidance, weights from disk and given embeddings", () =>
  inTempDir(async (dir) => {
    const whole = await make(dir, "whole");
    assertEquals((await make(dir, "streamed", "--weights", "stream")).pixels, whole.pixels);
    assertNotEquals((await make(dir, "less", "--guidance", "2")).pixels, whole.pixels);
    const file = join(dir, "e.safetensors"), tensors: Record<string, TensorToWrite> = {};
    using source = await openSafetensors(join(FOLDER, "reference.safetensors"));
    for (const name of ["prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask"]) {
      const { dtype, shape } = source.info(name);
      tensors[name] = { dtype, shape, data: await source.read(name) };
    }
    await writeSafetensors(file, tensors);
    assertNotEquals((await make(dir, "given", "--embeddings", file)).pixels, whole.pixels);
  }));

Deno.test("HunyuanVideo: VORTA by a router's file, and Veda", () =>
  inTempDir(async (dir) => {
    const router = join(dir, "router.safetensors");
    await writeRouter(router);
    const full = await make(dir, "full");
    const sizes = ["--tile", "1x1x2", "--window", "1x1x1", "--bucket", "1x2x2"];
    const vorta = await make(dir, "vorta", "--router", router, ...sizes);
    assertEquals(vorta.attention, "vorta");
    assert(vorta.density < 1, `${vorta.density}`);
    const quarter = ["--attention", "veda", "--tile-shape", "1x2x2", "--keep", "0.25"];
    const veda = await make(dir, "veda", ...quarter);
    assert(veda.density < 1, `${veda.density}`);
    assertNotEquals((await make(dir, "rest", ...quarter, "--rest", "estimate")).pixels, veda.pixels);
    for (const { pixels } of [vorta, veda]) assertNotEquals(pixels, full.pixels);
  }));

Deno.test("HunyuanVideo: every step cache skips work", () =>
  inTempDir(async (dir) => {
    const kinds = {
      "first-block": ["--cache-threshold", "9"],
      tea: ["--tea-coefficients", "0.01", "--cache-threshold", "0.025"],
      easy: ["--cache-first", "2", "--cache-threshold", "9"],
      pab: ["--pab-between", "0-1000"],
    };
    for (const [kind, args] of Object.entries(kinds)) {
      const made = await make(dir, kind, "--steps", "4", "--cache", kind, ...args);
      assertEquals(made.cache, kind);
      assert(made.density < 1, `${kind}: ${made.density}`);
    }
  }));

Deno.test("HunyuanVideo: settings are compared, and tiles searched and trained, and routers trained", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.txt"), `${PROMPT}\n`);
    const table = await ran(dir, "compare", PROMPT, ...SIZE, "--steps", "2", "--out", "compared");
    for (const setting of ["full ", "sliding ", "coreset "]) assertStringIncludes(table, `\n  ${setting}`);

    const clips = ["--prompts", "p.txt", ...SIZE, "--sampling-steps", "2"];
    const sizes = ["--tile", "1x1x1", "--window", "1x1x1", "--bucket", "1x2x2"];
    const router = ["train", "router", ...clips, "--accumulate", "1", "--steps", "2", ...sizes, "--out", "r"];
    assertStringIncludes(await ran(dir, ...router), "r/router.safetensors: 2 steps in ");
    const vorta = await make(dir, "vorta", "--router", join(dir, "r/router.safetensors"));
    assertEquals(vorta.attention, "vorta");

    const search = ["search", "tiles", ...clips, "--tile-tokens", "2", "--looks", "1", "--keep", "0.4"];
    assertStringIncludes(await ran(dir, ...search, "--out", "plan"), "plan: at keep 0.4 the error of attention is ");
    const train = ["train", "tiles", ...clips, "--plan", "plan", "--steps", "2", "--out", "t"];
    assertStringIncludes(await ran(dir, ...train), "t/tiles.safetensors: 2 steps in ");
    const { tileTokens, scorer } = await loadVeda(join(dir, "t/tiles.safetensors"));
    assertEquals([tileTokens, scorer?.layers.length], [2, 2]);
    const veda = await make(dir, "veda", "--tiles", join(dir, "t/tiles.safetensors"), "--keep", "0.25");
    assert(veda.density < 1, `${veda.density}`);
  }));

Deno.test("HunyuanVideo: ComfyUI's files in place of all parts make the same clip", () =>
  inTempDir(async (dir) => {
    const parts = {
      transformer: ["transformer", "diffusion_pytorch_model", comfyTransformer],
      vae: ["vae", "diffusion_pytorch_model", comfyVae],
      "text-encoder": ["text_encoder", "model", (source: TensorSource) => prefixed(source, "model.")],
      "text-encoder-2": ["text_encoder_2", "model", (source: TensorSource) => prefixed(source, "text_model.")],
    } as const;
    const files: string[] = [];
    for (const [option, [part, stem, convert]] of Object.entries(parts)) {
      const file = join(dir, `${option}.safetensors`);
      using source = await openCheckpoint(join(FOLDER, part), stem);
      await writeSafetensors(file, await convert(source));
      files.push(`--${option}`, file);
    }
    const own = await make(dir, "own"), given = await make(dir, "given", ...files);
    assertEquals(given.pixels, own.pixels);
    const again = await clipMaker(["generate", "--json"])(
      ...[dir, "again", "--like", join(dir, "given.png"), "--model", FOLDER] as const,
    );
    assertEquals(again.pixels, own.pixels);
    assertEquals((await readRecord(join(dir, "again.png")))!.textEncoder2, "text-encoder-2.safetensors");
  }));

/** A text encoder as ComfyUI has it: under transformers' names, with a prefix. */
async function prefixed(source: TensorSource, prefix: string): Promise<Record<string, TensorToWrite>> {
  const tensors: Record<string, TensorToWrite> = {};
  for (const name of source.names()) {
    const { dtype, shape } = source.info(name);
    tensors[prefix + name] = { dtype, shape, data: await source.read(name) };
  }
  return tensors;
}
