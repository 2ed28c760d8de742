import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { decode as decodePng } from "fast-png";
import { GifReader } from "omggif";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { openGpu } from "../../gpu/native/open.ts";
import { openModel } from "../../model/checkpoint/model_folder.ts";
import { randn } from "../../model/noise.ts";
import { BrokenModel } from "../broken_model.ts";
import { redCentre } from "../colour_centre.ts";
import { readMp4, yuv420ToRgb } from "../h264_reader.ts";
import { psnr } from "../moving_shapes.ts";
import { assertRefused, execute, inTempDir, listFiles, MODEL, QUICK, ROOT, tilereel } from "../process.ts";

const COMMANDS = ["generate", "compare", "info", "parity"];

/** Runs a command line that must succeed, and gives what it printed. */
async function succeed(args: readonly string[], options: Deno.CommandOptions = {}): Promise<string> {
  const { code, out, err } = await tilereel(args, options);
  assertEquals(code, 0, err);
  return out;
}

/** Renders a quick clip to `out`. */
async function quick(out: string, ...args: string[]): Promise<string> {
  return await succeed(["generate", "a red circle", ...QUICK, "--seed", "1", "--out", out, ...args]);
}

Deno.test("--help and --version", async () => {
  for (const args of [[], ["--help"], ["-h"], ["help"]]) {
    const { code, out, err } = await tilereel(args);
    assertEquals([code, err], [0, ""]);
    for (const command of COMMANDS) assertStringIncludes(out, `\n  ${command}`);
  }
  assertEquals(await tilereel(["--version"]), { code: 0, out: `tilereel ${config.version}\n`, err: "" });
  for (const command of COMMANDS) {
    for (const args of [[command, "--help"], ["help", command], [command, "x", "y", "-h"]]) {
      const { code, out, err } = await tilereel(args);
      assertEquals([code, err], [0, ""]);
      assert(out.startsWith(`Usage: tilereel ${command}`), out);
      assertStringIncludes(out, "Examples:");
    }
  }
});

Deno.test("mistyped command lines: one sentence on the standard error, exit 1", async () => {
  const refused = async (args: string[], message: string) =>
    assertRefused(await tilereel(args), `tilereel: ${message}`);
  await refused(["genrate", "x"], '"genrate" is not a tilereel command: did you mean "tilereel generate"?');
  await refused(["toString"], '"toString" is not a tilereel command');
  await refused(["--versoin"], '"--versoin" is not an option of tilereel');
  await refused(["info", "--jso"], '--jso is not an option of "tilereel info": did you mean --json?');
  await refused(["info", "a", "b"], 'unexpected argument "b"');
  await refused(["generate", "a", "red", "circle"], 'unexpected argument "red"');
  await refused(["info", "/nonexistent"], "/nonexistent does not exist");
});

Deno.test("info shows the adapters, and a model's parts and defaults", async () => {
  assertStringIncludes(await succeed(["info"]), "Adapter 1: ");
  const { adapters, model } = JSON.parse(await succeed(["info", MODEL, "--json"]));
  assert(adapters.length > 0);
  assert(adapters[0].limits.maxBufferSize > 0);
  assertEquals(
    model.components.map(({ name, dtypes, files }: { name: string; dtypes: string[]; files: unknown[] }) => [
      name,
      dtypes,
      files.length,
    ]),
    [["transformer", ["BF16"], 3], ["vae", ["F16"], 1], ["text_encoder", ["F32"], 1]],
  );
  assertEquals([model.defaults.width, model.defaults.frames, model.missing], [128, 29, []]);
  assertStringIncludes(await succeed(["info", MODEL]), "128x128, 29 frames at 16 fps");
});

Deno.test("generate makes what the prompt says: a red circle that moves right, in an MP4 that others can read", () =>
  inTempDir(async (dir) => {
    const prompt = "a big red circle moving right on a black background";
    const out = await succeed(["generate", prompt, "--seed", "1", "--preset", "demo"], { cwd: dir });
    const file = "out/a-big-red-circle-moving-right-on-a-black-1.mp4";
    assertStringIncludes(out, "128x128, 29 frames at 16 fps");
    assertEquals(listFiles(dir), ["out/", file]);

    const track = await readMp4(await Deno.readFile(join(dir, file)));
    assertEquals([track.width, track.height, track.frames.length, track.seconds], [128, 128, 29, 29 / 16]);
    const centres = track.frames.map((frame) => redCentre(yuv420ToRgb(frame, 128, 128), 128, 128));
    // A big circle, all the way.
    for (const { pixels } of centres) assert(pixels > 0.05 * 128 ** 2 && pixels < 0.3 * 128 ** 2, `${pixels} pixels`);
    for (let i = 7; i < 29; i += 7) {
      const [before, now] = [centres[i - 7]!, centres[i]!];
      assert(now.x > before.x + 0.05, `frame ${i}: from ${before.x} to ${now.x}`);
      assert(Math.abs(now.y - before.y) < 0.05, `frame ${i}: up or down from ${before.y} to ${now.y}`);
    }
    // The rest is black.
    const last = yuv420ToRgb(track.frames[28]!, 128, 128);
    const dark = Array.from({ length: 128 ** 2 }, (_, i) => Math.max(...last.subarray(i * 3, i * 3 + 3)))
      .filter((brightest) => brightest < 60).length;
    assert(dark > 0.6 * 128 ** 2, `${dark} dark pixels`);
  }));

Deno.test("one clip in every format", async (t) => {
  await inTempDir(async (dir) => {
    await t.step("MP4", async () => {
      await quick(join(dir, "x.mp4"), "--fps", "8");
      const track = await readMp4(await Deno.readFile(join(dir, "x.mp4")));
      assertEquals([track.width, track.height, track.frames.length, track.seconds], [32, 32, 5, 5 / 8]);
    });
    let frames: Uint8Array[] = [];
    await t.step("a folder of frames", async () => {
      await quick(join(dir, "frames/"));
      const names = listFiles(join(dir, "frames"));
      assertEquals(names, ["0001.png", "0002.png", "0003.png", "0004.png", "0005.png", "clip.json"]);
      frames = names.slice(0, 5).map((name) => {
        const { data, width, height, channels } = decodePng(Deno.readFileSync(join(dir, "frames", name)));
        assertEquals([width, height, channels], [32, 32, 3]);
        return new Uint8Array(data);
      });
    });
    await t.step("a contact sheet, in a folder that is made for it", async () => {
      await quick(join(dir, "new/sheets/x.png"));
      const sheet = decodePng(await Deno.readFile(join(dir, "new/sheets/x.png")));
      assertEquals([sheet.width, sheet.height], [4 * 34 - 2, 2 * 34 - 2]);
      // The second frame's first row.
      assertEquals(sheet.data.slice(34 * 3, 66 * 3), frames[1]!.slice(0, 32 * 3));
    });
    await t.step("GIF", async () => {
      await quick(join(dir, "x.gif"));
      const gif = new GifReader(await Deno.readFile(join(dir, "x.gif")));
      assertEquals([gif.width, gif.height, gif.numFrames()], [32, 32, 5]);
      const rgba = new Uint8Array(32 * 32 * 4);
      gif.decodeAndBlitFrameRGBA(0, rgba);
      const rgb = rgba.filter((_, i) => i % 4 !== 3);
      assert(psnr(rgb, frames[0]!) > 25, `${psnr(rgb, frames[0]!)} dB`);
    });
  });
});

Deno.test("options that change the clip, and those that do not", async (t) => {
  await inTempDir(async (dir) => {
    let runs = 0;
    const render = async (...args: string[]) => {
      const out = join(dir, `${runs++}.png`);
      await quick(out, ...args);
      return pixels(await Deno.readFile(out));
    };
    // Files say what they were made with, so they differ where pictures are the same.
    const pixels = (png: Uint8Array) => new Uint8Array(decodePng(png).data);
    const first = await render("--steps", "2", "--guidance", "4");
    const same = ["--steps", "2", "--guidance", "4"];

    await t.step("the same seed: the same bytes", async () => {
      assertEquals(await render(...same), first);
      const mp4 = async (name: string) => {
        await quick(join(dir, name));
        return await Deno.readFile(join(dir, name));
      };
      assertEquals(await mp4("a.mp4"), await mp4("b.mp4"));
    });
    for (
      const change of [
        ["--seed", "2"],
        ["--scheduler", "euler"],
        ["--flow-shift", "1"],
        ["--sigmas", "wan"],
        ["--steps", "3"],
        ["--guidance", "2"],
        ["--negative", "a blue square"],
      ]
    ) {
      await t.step(`${change.join(" ")}: other bytes`, async () => {
        assertNotEquals(await render(...same, ...change), first);
      });
    }
    await t.step("--text-encoder with the same encoder as ONNX: nearly the same frames", async () => {
      const onnx = await render(...same, "--text-encoder", join(MODEL, "text_encoder/model.onnx"));
      assert(psnr(onnx, first) > 50, `${psnr(onnx, first)} dB`);
    });
    await t.step("--embeddings of the same prompt: the same frames, from a model without text encoder", async () => {
      const file = join(dir, "embeddings.safetensors");
      await encodeTo(file, "a red circle", "");
      const model = await BrokenModel.make(join(dir, "model"));
      await (await model.remove("text_encoder")).remove("tokenizer");
      const given = await render(...same, "--embeddings", file, "--model", model.path);
      assertEquals(given, first);
    });
    await t.step("--memory that suffices changes nothing", async () => {
      assertEquals(await render(...same, "--memory", "1GiB"), first);
    });
    await t.step("--precision f16: nearly the same frames, or the adapter cannot", async () => {
      const { adapters } = JSON.parse(await succeed(["info", "--json"]));
      if (adapters[0].features.includes("shader-f16")) {
        const half = await render(...same, "--precision", "f16");
        assert(psnr(half, first) > 35, `${psnr(half, first)} dB`);
      } else {
        assertRefused(
          await tilereel(["generate", "a", "--out", join(dir, "half.png"), ...QUICK, "--precision", "f16"]),
          "has no shader-f16, which precision f16 needs: use f32",
        );
      }
    });
    await t.step("--precision int8: nearly the same frames, and no other format of weights", async () => {
      const int8 = await render(...same, "--precision", "int8"), likeness = psnr(int8, first);
      assert(likeness > 35 && likeness < 70, `${likeness} dB`);
      const args = [...QUICK, "--precision", "int8", "--weight-dtype", "bf16"];
      assertRefused(
        await tilereel(["generate", "a", "--out", join(dir, "eight.png"), ...args]),
        "precision int8 multiplies int8 weights, but the format of weights is bf16; choose int8 or auto for it",
      );
    });
    await t.step("--latents: start noise from a file, whatever the seed", async () => {
      const noise = { dtype: "F32" as const, shape: [1, 16, 2, 4, 4], data: randn(16 * 2 * 4 * 4, 5) };
      const other = { ...noise, data: randn(16 * 2 * 4 * 4, 6) };
      const [alone, among] = [join(dir, "noise.safetensors"), join(dir, "run.safetensors")];
      await writeSafetensors(alone, { noise });
      // Of many tensors, the one called so is taken.
      await writeSafetensors(among, { "latents.0": other, "latents.init": noise, "latents.1": other });
      const [a, b, c] = [join(dir, "a.png"), join(dir, "b.png"), join(dir, "c.png")];
      const said = JSON.parse(await quick(a, "--json", "--latents", alone));
      assertEquals([said.latents, said.seed], ["noise.safetensors", null]);
      await quick(b, "--latents", among, "--seed", "2");
      await quick(c);
      const [ofA, ofB, ofC] = (await Promise.all([a, b, c].map((file) => Deno.readFile(file)))).map(pixels);
      assertEquals(ofA, ofB);
      assertNotEquals(ofA, ofC);
    });
  });
});

/** Encodes two prompts with the demo model's text encoder into a file as diffusers' users would save them. */
async function encodeTo(file: string, prompt: string, negative: string): Promise<void> {
  const gpu = await openGpu();
  using model = await openModel(MODEL);
  const encoded = await model.promptEncoder(gpu).encode([prompt, negative], 32);
  const [positive, other] = [await gpu.read(encoded[0]!.text), await gpu.read(encoded[1]!.text)];
  gpu.close();
  await writeSafetensors(file, {
    prompt_embeds: { dtype: "F32", shape: [1, 32, 128], data: positive },
    negative_prompt_embeds: { dtype: "F32", shape: [1, 32, 128], data: other },
  });
}

Deno.test("--quiet says nothing; --json says one object a clip, and is alone on the standard output", () =>
  inTempDir(async (dir) => {
    const clip = ["generate", "a red circle", ...QUICK, "--seed", "3"];
    assertEquals(await tilereel([...clip, "--quiet", "--out", join(dir, "q.mp4")]), { code: 0, out: "", err: "" });
    const { code, out, err } = await tilereel([...clip, "--quiet", "--json", "--out", join(dir, "j.mp4")]);
    assertEquals([code, err], [0, ""]);
    const { seconds, weights, precision, precisionReason, adapter, source, modelDigest, ...said } = JSON.parse(out);
    assertEquals([adapter !== "", ["deno", "dawn"].includes(source)], [true, true]);
    assertEquals(weights.place, "resident");
    assert(seconds > 0);
    assertEquals([["f32", "f16"].includes(precision), precisionReason !== ""], [true, true]);
    assertEquals(said, {
      file: join(dir, "j.mp4"),
      format: "mp4",
      bytes: (await Deno.stat(join(dir, "j.mp4"))).size,
      prompt: "a red circle",
      width: 32,
      height: 32,
      frames: 5,
      fps: 16,
      steps: 1,
      guidance: 1,
      seed: 3,
      clamped: [],
      attention: "full",
      density: 1,
      model: "embedded",
      version: config.version,
      scheduler: "unipc",
      sigmas: "diffusers",
      flowShift: 3,
      quality: 80,
    });
    assert(/^[0-9a-f]{16}$/.test(modelDigest), modelDigest);
  }));

Deno.test("a folder as Wan 14B's, whose index names another scheduler than its config; steps by a list of sigmas", () =>
  inTempDir(async (dir) => {
    const model = await BrokenModel.make(join(dir, "model"));
    await model.set("model_index.json", { scheduler: ["diffusers", "FlowMatchEulerDiscreteScheduler"] });
    const [odd, plain] = [join(dir, "odd.png"), join(dir, "plain.png")];
    const args = ["generate", "a red circle", "--size", "32x32", "--frames", "5", "--guidance", "1", "--seed", "1"];
    const sigmas = ["--sigmas", "1,0.5"];
    const { code, out, err } = await tilereel([...args, ...sigmas, "--json", "--out", odd, "--model", model.path]);
    assertEquals(code, 0, err);
    assertStringIncludes(err, "Note: model_index.json names FlowMatchEulerDiscreteScheduler, but");
    const said = JSON.parse(out);
    assertEquals([said.steps, said.sigmas], [2, [1, 0.5]]);
    const { err: none } = await tilereel([...args, ...sigmas, "--scheduler", "unipc", "--out", plain]);
    assertEquals(none.includes("model_index.json"), false, none);
    const [a, b] = await Promise.all([odd, plain].map(async (file) => decodePng(await Deno.readFile(file)).data));
    assertEquals(a, b);
    assertRefused(
      await tilereel([...args, ...sigmas, "--steps", "3"], { cwd: dir }),
      "2 sigmas make 2 steps, but 3 steps were requested: leave out one of the two",
    );
  }));

Deno.test("what the model does not see of a prompt is noted", async () => {
  await inTempDir(async (dir) => {
    const prompt = `a cat and a red circle${" on a black background".repeat(10)}`;
    const args = ["generate", prompt, ...QUICK, "--out", join(dir, "x.mp4")];
    const { code, err } = await tilereel(args);
    assertEquals(code, 0, err);
    assertStringIncludes(err, 'Note: the model has no word for "cat" in "a cat and a red circle on a black');
    assertStringIncludes(err, "Note: the model reads 32 tokens, so the last ");
    assertEquals((await tilereel([...args, "--quiet"])).err, "");
  });
});

Deno.test("without --out clips stand side by side, in the folder that the task was called from", () =>
  inTempDir(async (dir) => {
    const task = (...args: string[]) =>
      execute(Deno.execPath(), ["task", "--config", join(ROOT, "deno.json"), "tilereel", ...args], {
        cwd: dir,
        // Deno says so itself, unless a task around this one has.
        env: { NO_COLOR: "1", INIT_CWD: dir },
      });
    const said: string[] = [];
    for (const more of [[], ["--attention", "vorta"], [], ["--attention", "vorta", "--json"]]) {
      const { code, out, err } = await task("generate", "a red circle", ...QUICK, "--seed", "1", ...more);
      assertEquals(code, 0, err);
      said.push(out, err);
    }
    // Another clip of that name has a number, the same one is not made again.
    assertEquals(listFiles(dir), ["out/", "out/a-red-circle-1-2.mp4", "out/a-red-circle-1.mp4"]);
    assertStringIncludes(
      said[3]!,
      '(attention "full", now "vorta"), so this clip is written to out/a-red-circle-1-2.mp4',
    );
    assertStringIncludes(said[4]!, "out/a-red-circle-1.mp4 was already made with the same settings");
    assertEquals(JSON.parse(said[6]!).skipped, true);
  }));

Deno.test("a batch of prompts, as text and as JSONL, that can be resumed", async (t) => {
  for (
    const [name, content, files] of [
      ["p.txt", "# two\na red circle\n\na blue square\n", ["0001-a-red-circle-3.gif", "0002-a-blue-square-3.gif"]],
      [
        "p.jsonl",
        '{"prompt": "a red circle", "seed": 7}\n{"prompt": "a blue square", "out": "sub/square.png", "frames": 9}\n',
        ["0001-a-red-circle-7.gif", "sub/", "sub/square.png"],
      ],
    ] as const
  ) {
    await t.step(name, () =>
      inTempDir(async (dir) => {
        const prompts = join(dir, name), clips = join(dir, "clips");
        await Deno.writeTextFile(prompts, content);
        const args = [
          "generate",
          "--prompts",
          prompts,
          "--out",
          clips,
          "--format",
          "gif",
          ...QUICK,
          "--seed",
          "3",
          "--json",
        ];
        const batch = async () => (await succeed(args)).trim().split("\n").map((line) => JSON.parse(line));
        const made = await batch();
        assertEquals(listFiles(clips), [...files]);
        assertEquals(made.map(({ prompt }) => prompt), ["a red circle", "a blue square"]);
        if (name === "p.jsonl") assertEquals([made[0].seed, made[1].frames, made[1].format], [7, 9, "png"]);

        // What is there is left alone, even its time of change; what is missing is made.
        const [kept, lost] = made.map(({ file }) => file as string) as [string, string];
        const before = await Deno.stat(kept);
        await Deno.remove(lost);
        assertEquals((await batch()).map(({ file, skipped = false }) => [file, skipped]), [[kept, true], [
          lost,
          false,
        ]]);
        assertEquals(listFiles(clips), [...files]);
        assertEquals((await Deno.stat(kept)).mtime, before.mtime);
        assertEquals((await batch()).map(({ skipped }) => skipped), [true, true]);
      }));
  }
});
