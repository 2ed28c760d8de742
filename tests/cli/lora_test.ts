/** LoRAs as users meet them. */
import { assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import { writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { readRecord } from "../../model/video/record.ts";
import { randn } from "../gpu.ts";
import { assertRefused, inTempDir, MODEL, tilereel } from "../process.ts";
import { clipMaker } from "./made_clip.ts";

const CLIP = ["generate", "a red circle", "--size", "64x64", "--frames", "5", "--steps", "2", "--seed", "3"];
const RANK = 3;

const make = clipMaker([...CLIP, "--json"]);

/** Parts of the demo model, and in each a matrix of the first block. */
const MATRICES = {
  transformer: ["diffusion_pytorch_model", "blocks.0.attn1.to_q.weight"],
  text_encoder: ["model", "encoder.block.0.layer.0.SelfAttention.q.weight"],
} as const;

/** A LoRA for the demo model's first block, in Kohya's layout. */
async function writeLora(
  file: string,
  seed: number,
  layer = "lora_unet_blocks_0_self_attn_q",
  part: keyof typeof MATRICES = "transformer",
): Promise<string> {
  const [stem, matrix] = MATRICES[part];
  using source = await openCheckpoint(join(MODEL, part), stem);
  const [outputs, inputs] = source.info(matrix).shape as [number, number];
  await writeSafetensors(file, {
    [`${layer}.lora_down.weight`]: { dtype: "F32", shape: [RANK, inputs], data: randn(RANK * inputs, seed, 0.3) },
    [`${layer}.lora_up.weight`]: { dtype: "F32", shape: [outputs, RANK], data: randn(outputs * RANK, seed + 1, 0.3) },
    [`${layer}.alpha`]: { dtype: "F32", shape: [1], data: new Float32Array([RANK]) },
  });
  return file;
}

Deno.test("generate: LoRAs change the clip by their strength, resident and streamed, and --like finds them", () =>
  inTempDir(async (dir) => {
    const a = await writeLora(join(dir, "a.safetensors"), 1), b = await writeLora(join(dir, "b.safetensors"), 5);
    const none = await make(dir, "none"), zero = await make(dir, "zero", "--lora", `${a}:0`);
    assertEquals(zero.pixels, none.pixels);
    const one = await make(dir, "one", "--lora", a), half = await make(dir, "half", "--lora", `${a}:0.5`);
    const both = await make(dir, "both", "--lora", a, "--lora", `${b}:-0.5`);
    for (const [x, y] of [[one, none], [half, one], [both, one]]) assertNotEquals(x!.pixels, y!.pixels);
    // Twice half a LoRA is the LoRA, but for rounding.
    const twice = await make(dir, "twice", "--lora", `${a}:0.5`, "--lora", `${a}:0.5`, "--weights", "stream");
    assertEquals(twice.pixels.every((value, i) => Math.abs(value - one.pixels[i]!) <= 1), true);
    const key = "lora_te_encoder_block_0_layer_0_SelfAttention_q";
    const text = await make(dir, "text", "--lora", await writeLora(join(dir, "t.safetensors"), 9, key, "text_encoder"));
    assertNotEquals(text.pixels, none.pixels);
    const { lora, loraStrength } = (await readRecord(join(dir, "both.png")))!;
    assertEquals([lora, loraStrength], [["a.safetensors", "b.safetensors"], ["1", "-0.5"]]);
    const like = ["--like", join(dir, "both.png"), "--out", join(dir, "again.png")];
    assertEquals((await tilereel(["generate", ...like])).code, 0);
    assertEquals(await Deno.readFile(join(dir, "again.png")), await Deno.readFile(join(dir, "both.png")));
  }));

Deno.test("generate: a LoRA that does not fit is refused in one sentence", () =>
  inTempDir(async (dir) => {
    const refuses = async (file: string, message: string) => {
      const { code, err } = await tilereel([...CLIP, "--out", join(dir, "x.png"), "--lora", file]);
      assertEquals(code, 1);
      assertStringIncludes(err, message);
    };
    const deep = await writeLora(join(dir, "deep.safetensors"), 1, "lora_unet_blocks_77_self_attn_q");
    await refuses(deep, 'adds to "blocks.77.attn1.to_q.weight", which');
    const text = await writeLora(join(dir, "text.safetensors"), 1, "lora_te_text_model_encoder");
    await refuses(text, 'adds to "text_model_encoder.weight", which');
    const second = await writeLora(join(dir, "second.safetensors"), 1, "lora_te2_text_model_encoder");
    await refuses(second, "changes text_encoder_2, which models of Wan 2.1 do not have");
    const wrong = await writeLora(join(dir, "wrong.safetensors"), 1, "lora_unet_blocks_0_ffn_0");
    await refuses(wrong, "it was made for another model");
    await Deno.writeTextFile(join(dir, "no.safetensors"), "no LoRA");
    await refuses(join(dir, "no.safetensors"), "no.safetensors");
    await writeSafetensors(join(dir, "loha.safetensors"), {
      "lora_unet_blocks_0_self_attn_q.hada_w1_a": { dtype: "F32", shape: [1], data: new Float32Array(1) },
    });
    await refuses(join(dir, "loha.safetensors"), "is a LoHa, which is not supported");
    assertRefused(await tilereel([...CLIP, "--lora", ""]), "--lora must be a file, and after a colon its strength");
  }));

Deno.test("generate: a preset sets steps, scheduler, noise levels, flow shift and guidance; options beside it count more", () =>
  inTempDir(async (dir) => {
    const size = ["generate", "a red circle", "--size", "32x32", "--frames", "5", "--seed", "3", "--json"];
    const run = async (name: string, ...args: string[]) => {
      const { code, out, err } = await tilereel([...size, "--out", join(dir, name), ...args]);
      assertEquals(code, 0, err);
      const { steps, scheduler, sigmas, flowShift, guidance } = JSON.parse(out);
      return { steps, scheduler, sigmas, flowShift, guidance };
    };
    const few = { steps: 4, scheduler: "lcm", sigmas: [1, 0.75, 0.5, 0.25], flowShift: 5, guidance: 1 };
    assertEquals(await run("a.gif", "--preset", "lightx2v"), few);
    const mine = await run("b.gif", "--preset", "lightx2v", "--steps", "2", "--flow-shift", "3");
    assertEquals(mine, { ...few, steps: 2, sigmas: "diffusers", flowShift: 3 });
    assertEquals(await run("c.gif", "--like", join(dir, "b.gif"), "--preset", "fastwan", "--seed", "3"), {
      ...{ steps: 3, scheduler: "dmd", sigmas: [1, 0.28, 0.12], flowShift: 8, guidance: 1 },
    });
  }));

Deno.test("generate: the preset of the demo model's LoRA loads it, and --like finds it again", () =>
  inTempDir(async (dir) => {
    const clip = ["generate", "a red circle", "--size", "32x32", "--frames", "5", "--seed", "3", "--preset", "demo"];
    const preset = clipMaker([...clip, "--json"]), own = await preset(dir, "own");
    const { lora, loraStrength, steps } = (await readRecord(join(dir, "own.png")))!;
    assertEquals({ lora, loraStrength, steps }, { lora: ["few_steps.safetensors"], loraStrength: ["1"], steps: 4 });
    const named = await preset(dir, "named", "--lora", join(MODEL, "few_steps.safetensors"));
    const other = await preset(dir, "other", "--lora", `${join(MODEL, "few_steps.safetensors")}:0.5`);
    assertEquals(named.pixels, own.pixels);
    assertNotEquals(other.pixels, own.pixels);
    const again = await clipMaker(["generate", "--json"])(dir, "again", "--like", join(dir, "own.png"));
    assertEquals(again.pixels, own.pixels);
    assertRefused(
      await tilereel([...clip, "--model", dir]),
      `--preset demo is for a LoRA that ${dir} does not have: name one with --lora FILE`,
    );
  }));
