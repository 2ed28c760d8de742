/** Image to video as users meet it: a tiny Wan 2.1 I2V, whose prompts are embeddings, and Wan 2.2 A14B. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { encode as encodePng } from "fast-png";
import { join } from "node:path";
import { openSafetensors } from "../../model/checkpoint/safetensors.ts";
import { writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { readRecord } from "../../model/video/record.ts";
import { inTempDir, tilereel } from "../process.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url).pathname;

/** Writes a model folder with small defaults, `embeddings.safetensors` and `square.png`, and gives the usual options. */
async function prepare(dir: string, name: string): Promise<string[]> {
  const fixture = join(FIXTURES, name), model = join(dir, "model");
  await Deno.mkdir(model);
  for await (const entry of Deno.readDir(fixture)) {
    await Deno.symlink(join(fixture, entry.name), join(model, entry.name));
  }
  const defaults = { width: 48, height: 32, frames: 5, steps: 2 };
  await Deno.writeTextFile(join(model, "generation.json"), JSON.stringify(defaults));
  using source = await openSafetensors(join(fixture, "reference.safetensors"));
  const names = ["prompt_embeds", "negative_prompt_embeds"];
  const tensors = await Promise.all(names.map(async (name) => {
    const { dtype, shape } = source.info(name);
    return [name, { dtype, shape, data: await source.read(name) }] as const;
  }));
  const embeddings = join(dir, "embeddings.safetensors");
  await writeSafetensors(embeddings, Object.fromEntries(tensors));
  const data = Uint8Array.from({ length: 40 * 40 * 3 }, (_, i) => i % 251);
  await Deno.writeFile(join(dir, "square.png"), encodePng({ width: 40, height: 40, channels: 3, data }));
  return ["--model", model, "--embeddings", embeddings, "--seed", "3"];
}

Deno.test("a clip of a picture has its proportions and is repeated by --like; other pictures make others", () =>
  inTempDir(async (dir) => {
    const options = await prepare(dir, "tiny_wan_i2v_pipeline"),
      first = join(FIXTURES, "tiny_wan_i2v_pipeline/first.png");
    const square = join(dir, "square.png"), file = join(dir, "a.png"), clip = ["generate", "a cat", ...options];
    const made = await tilereel([...clip, "--image", square, "--out", file]);
    assertEquals(made.code, 0, made.err);
    const record = (await readRecord(file))!;
    const { width, height, image, imageDigest, guidance, steps } = record;
    // 48 × 32 pixels, 39 on each side, in multiples of 16.
    assertEquals({ width, height, image, guidance, steps }, {
      ...{ width: 32, height: 32, image: "square.png", guidance: 5, steps: 2 },
    });
    assert(typeof imageDigest === "string");
    assert(!made.err.includes("cropped"), made.err);
    const again = await tilereel(["generate", "--like", file, "--model", options[1]!, "--out", join(dir, "b.png")]);
    assertEquals(again.code, 0, again.err);
    assertEquals(await Deno.readFile(join(dir, "b.png")), await Deno.readFile(file));

    const other = await tilereel([...clip, "--image", first, "--size", "64x32", "--json", "--out", join(dir, "c.png")]);
    assertEquals(other.code, 0, other.err);
    assertStringIncludes(
      other.err,
      "the picture of 150x100 is scaled to cover 64x32 and cropped round its centre, which cuts off 25 % of it",
    );
    assertEquals(JSON.parse(other.out).image, "first.png");

    const refused = async (args: string[], message: string) => {
      const { code, err } = await tilereel([...clip, "--out", join(dir, "d.png"), ...args]);
      assertEquals(code, 1);
      assertStringIncludes(err, message);
    };
    await refused([], "a model of Wan 2.1 I2V needs a picture to begin with: name it with --image FILE");
    await refused(["--image", square, "--last-image", square], "a model of Wan 2.1 I2V takes no picture to end with");
    await refused(["--image", join(dir, "no.png")], "no.png");
    await refused(["--image", options[3]!], "embeddings.safetensors cannot be read: it is no PNG, JPEG, GIF or WebP");
    const info = await tilereel(["info", options[1]!]);
    assertStringIncludes(info.out, "model (Wan 2.1 I2V)");
    assertStringIncludes(info.out, "pictures: --image is required");
    assertStringIncludes(info.out, "image_encoder");
  }));

Deno.test("two transformers: both pictures, two scales of guidance, sparse attention, streamed weights", () =>
  inTempDir(async (dir) => {
    const options = await prepare(dir, "tiny_wan_a14b_pipeline"), fixture = join(FIXTURES, "tiny_wan_a14b_pipeline");
    const pictures = ["--image", join(fixture, "first.png"), "--last-image", join(fixture, "last.png")];
    const make = async (name: string, ...more: string[]) => {
      const out = join(dir, `${name}.png`);
      const { code, err } = await tilereel(["generate", "a cat", ...options, ...pictures, "--out", out, ...more]);
      assertEquals(code, 0, err);
      return await Deno.readFile(out);
    };
    const usual = await make("usual");
    const { guidance, guidanceLow, lastImage } = (await readRecord(join(dir, "usual.png")))!;
    assertEquals([guidance, guidanceLow, lastImage], [3.5, undefined, "last.png"]);
    assert((await make("other", "--guidance-low", "1.5")).join() !== usual.join());
    const streamed = await make("streamed", "--weights", "stream");
    assertEquals(streamed, usual);
    await make("sparse", "--attention", "sliding", "--tile", "1x1x1", "--window", "1x3x3");
    const { density } = (await readRecord(join(dir, "sparse.png")))!;
    assert(Number(density) < 1);
  }));

Deno.test("a model of text to video takes no picture", () =>
  inTempDir(async (dir) => {
    const picture = join(FIXTURES, "tiny_wan_i2v_pipeline/first.png");
    for (const command of ["generate", "compare"]) {
      const { code, err } = await tilereel([
        command,
        "a circle",
        "--image",
        picture,
        "--out",
        `${join(dir, command)}/`,
      ]);
      assertEquals(code, 1);
      assertStringIncludes(err, "a model of Wan 2.1 takes no picture: leave it out");
    }
  }));
