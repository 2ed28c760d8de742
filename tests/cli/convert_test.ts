/** `tilereel convert` as users meet it. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { assertRefused, inTempDir, listFiles, MODEL, tilereel } from "../process.ts";
import { clipMaker } from "./made_clip.ts";

Deno.test("a converted model makes clips, and what cannot be converted is refused before anything is written", () =>
  inTempDir(async (dir) => {
    const out = join(dir, "int8"), lora = join(MODEL, "few_steps.safetensors");
    const converted = await tilereel(["convert", MODEL, out, "--format", "int8", "--lora", lora]);
    assertEquals(converted.code, 0, converted.err);
    assertStringIncludes(converted.out, `${MODEL} (Wan 2.1) as int8: `);
    assertStringIncludes(converted.out, `Next: tilereel generate "a cat on a skateboard" --model ${out}\n`);
    const clip = ["generate", "a red circle", "--size", "32x32", "--frames", "5", "--steps", "1", "--guidance", "1"];
    const make = clipMaker([...clip, "--seed", "3", "--json"]),
      encoder = ["--text-encoder", join(MODEL, "text_encoder")];
    const wanted = await make(dir, "wanted", "--lora", lora, "--weight-dtype", "int8", ...encoder);
    assertEquals((await make(dir, "made", "--model", out, ...encoder)).pixels, wanted.pixels);
    const info = await tilereel(["info", out]);
    assertStringIncludes(info.out, "I8_ROWS");

    const there = listFiles(dir),
      refuse = async (message: string, ...args: string[]) =>
        assertRefused(await tilereel(["convert", ...args]), message);
    await refuse("two paths are needed: the model, and the folder to write, as in tilereel convert IN OUT", MODEL);
    await refuse(`${out} exists already; name a new folder, or remove it first`, MODEL, out);
    const absent = join(dir, "absent");
    await refuse(
      `${absent} does not exist; the folder of a video model in the diffusers layout was expected`,
      absent,
      join(dir, "x"),
    );
    assertEquals(listFiles(dir), there);
  }));
