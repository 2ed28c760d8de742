/** Parts of a model as single files, as users meet them. */
import { assertEquals, assertNotEquals } from "@std/assert";
import { join } from "node:path";
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import { writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { readRecord } from "../../model/video/record.ts";
import { inTempDir, MODEL, tilereel } from "../process.ts";
import { filesIn } from "../model/files/files_in.ts";
import { clipMaker } from "./made_clip.ts";

const CLIP = ["generate", "a red circle", "--size", "32x32", "--frames", "5", "--steps", "2", "--seed", "3"];
const PARTS = { transformer: "diffusion_pytorch_model", vae: "diffusion_pytorch_model", text_encoder: "model" };

const make = clipMaker([...CLIP, "--json"]);

/** Writes a part of the demo model as one file. */
async function writePart(file: string, part: keyof typeof PARTS): Promise<void> {
  using source = await openCheckpoint(join(MODEL, part), PARTS[part]);
  const tensors = source.names().map(async (name) => {
    const { dtype, shape } = source.info(name);
    return [name, { dtype, shape, data: await source.read(name) }] as const;
  });
  await writeSafetensors(file, Object.fromEntries(await Promise.all(tensors)));
}

Deno.test("generate: parts as single files and folders make the model's clip, and --like finds them", () =>
  inTempDir(async (dir) => {
    const at = (name: string) => join(dir, name), base = at("base");
    for (const [path, bytes] of Object.entries(await filesIn(MODEL))) {
      if (/^(transformer|vae|text_encoder)\/.*safetensors/.test(path)) continue;
      await Deno.mkdir(join(base, path, ".."), { recursive: true });
      await Deno.writeFile(join(base, path), bytes);
    }
    await writePart(at("t.safetensors"), "transformer");
    await writePart(at("e.safetensors"), "text_encoder");
    const parts = ["--transformer", at("t.safetensors"), "--text-encoder", at("e.safetensors")];
    const wanted = await make(dir, "wanted"), vae = at("v");
    await Deno.mkdir(vae);
    for (const [name, bytes] of Object.entries(await filesIn(join(MODEL, "vae")))) {
      await Deno.writeFile(join(vae, name), bytes);
    }
    const given = await make(dir, "given", "--model", base, ...parts, "--vae", vae);
    assertEquals(given.pixels, wanted.pixels);
    const record = (await readRecord(at("given.png")))!;
    assertEquals([record.transformer, record.vae, record.textEncoder], ["t.safetensors", "v", "e.safetensors"]);
    const like = ["generate", "--like", at("given.png"), "--model", base];
    assertEquals((await tilereel([...like, "--out", at("again.png")])).code, 0);
    assertEquals(await Deno.readFile(at("again.png")), await Deno.readFile(at("given.png")));
    // Another text encoder than the clip's.
    const onnx = ["--text-encoder", join(MODEL, "text_encoder/model.onnx"), "--precision", "f32"];
    assertEquals((await tilereel([...like, "--out", at("onnx.png"), ...onnx])).code, 0);
    const { textEncoderDigest } = (await readRecord(at("onnx.png")))!;
    assertNotEquals(textEncoderDigest, record.textEncoderDigest);
  }));
