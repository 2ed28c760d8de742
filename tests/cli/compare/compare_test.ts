import { assert, assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { decode as decodePng } from "fast-png";
import { join } from "node:path";
import { parseSetting } from "../../../tools/program/clip/setting.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { Router } from "../../../model/vorta/router.ts";
import { saveRouter } from "../../../model/vorta/save_router.ts";
import type { VortaSettings } from "../../../model/vorta/settings.ts";
import { readMp4, yuv420ToRgb } from "../../h264_reader.ts";
import { psnr } from "../../moving_shapes.ts";
import { naiveSsim } from "../../naive_ssim.ts";
import { assertRefused, inTempDir, listFiles, start, tilereel } from "../../process.ts";

const SIZE = 64, FRAMES = 5;
/** Options for clips that are made in a few seconds. */
const SMALL = ["--size", "64x64", "--frames", "5", "--steps", "2"] as const;

const SLIDING = "sliding tile=1x2x2 window=1x1x1";
const SIZES: VortaSettings = { tile: [1, 2, 2], window: [1, 1, 1], bucket: [2, 2, 2], rate: 0.5 };

/** A router of the demo model whose heads take all branches. */
function undecidedRouter(): Router {
  const router = Router.random({ layers: 8, heads: 8, dim: 256 }, 3);
  for (const { weight } of router.layers) weight.forEach((w, i) => weight[i] = 8 * w);
  return router;
}

const parse = (text: string) => parseSetting(text, "--setting");

Deno.test("a setting: words by generate's options, and a name in front", () => {
  assertEquals(parse("full"), { name: "full", words: "full", values: { attention: "full" } });
  assertEquals(parse("  steps=3   sliding "), {
    name: "steps=3 sliding",
    words: "steps=3 sliding",
    values: { steps: 3, attention: "sliding" },
  });
  assertEquals(parse("my own: vorta tau=0.5 router=C:\\r.pt --flow_shift=2"), {
    name: "my own",
    words: "vorta tau=0.5 router=C:\\r.pt --flow_shift=2",
    values: { attention: "vorta", tau: 0.5, router: "C:\\r.pt", "flow-shift": 2 },
  });
  assertEquals(parse(`full negative="red, 'or: blue'" router='a b'/c`).values, {
    attention: "full",
    negative: "red, 'or: blue'",
    router: "a b/c",
  });
  assertEquals(parse("negative=").values, { negative: "" });
  assertEquals(parse("full sigmas=1,0.5").values, { attention: "full", sigmas: [1, 0.5] });
});

Deno.test("settings that are empty, or what no option takes, are refused in one sentence", () => {
  const refuses = (text: string, message: string) => assertThrows(() => parse(text), TilereelError, message);
  refuses("", '--setting "" is empty');
  refuses("name:", "is empty");
  refuses(" : full", "there is no name before the colon");
  refuses(
    "vrota",
    '--setting "vrota": "attention" must be full, vorta, veda, vsa, sliding or coreset, not "vrota": did you mean',
  );
  refuses("vorta tua=0.5", '--setting "vorta tua=0.5": unknown key "tua": did you mean "tau"?');
  refuses("full cfg_scale=3", 'did you mean "guidance"?');
  refuses("full toString=3", 'unknown key "toString"');
  refuses("vorta tau=2", '"vorta tau=2": "tau" must be a number from 0 to 1, not "2"');
  refuses("full steps=0", '"steps" must be a whole number from 1 to 1000');
  refuses("full seed=3", "seed is the same for all settings: give it as --seed instead");
  refuses("full size=32x32", "give it as --size instead");
  refuses("vorta tau 0.5", '"tau" is a second kind of attention');
  refuses("full steps=1 steps=2", "has steps twice");
  refuses("full negative='x", "has an opening quote without a closing one: add it");
  refuses(
    "full sigmas=1,0.5 steps=3",
    '"full sigmas=1,0.5 steps=3": 2 sigmas make 2 steps, but 3 steps were requested',
  );
});

Deno.test("comparisons that cannot be are refused before anything is loaded", () =>
  inTempDir(async (dir) => {
    const refused = async (message: string, ...args: string[]) =>
      assertRefused(await tilereel(["compare", ...args], { cwd: dir }), message);
    await refused("there is no prompt: say what to show");
    await refused("the prompt is empty", " ");
    await refused("a single --setting cannot be compared with anything", "a", "--setting", "full");
    await refused('two settings are called "full"', "a", "-s", "full", "-s", "full");
    await refused('--setting "vrota": "attention" must be', "a", "-s", "full", "-s", "vrota");
    await refused("--setting needs a value", "a", "-s", "full", "-s");
    await refused(
      'setting "full tau=0.5": --tau has no effect with --attention full',
      "a",
      "-s",
      "full",
      "-s",
      "full tau=0.5",
    );
    await refused('setting "x": none.pt', "a", "-s", "full", "-s", "x: vorta router=none.pt");
    await refused("did you mean --setting?", "a", "--tau", "0.5");
    await Deno.writeTextFile(join(dir, "file"), "");
    await refused("cannot write file: that is a file", "a", "--out", "file");
    assertEquals(listFiles(dir), ["file"]);
  }));

/** The samples of a clip made by `generate`, without loss. */
async function framesOf(dir: string, prompt: string, ...args: string[]): Promise<Uint8Array> {
  const out = join(dir, `frames-${crypto.randomUUID()}/`);
  const { code, err } = await tilereel(["generate", prompt, "--seed", "0", "--out", out, ...SMALL, ...args]);
  assertEquals(code, 0, err);
  const frames = listFiles(out).filter((name) => name.endsWith(".png")).map((name) =>
    decodePng(Deno.readFileSync(join(out, name))).data
  );
  return new Uint8Array(frames.flatMap((frame) => [...frame]));
}

/** A clip that others' decoders read from an MP4, as RGB: in whole blocks of 16 columns, as this decoder gives it. */
async function decoded(path: string, width: number, height: number): Promise<Uint8Array> {
  const track = await readMp4(await Deno.readFile(path));
  assertEquals([track.width, track.height, track.frames.length], [width, height, FRAMES]);
  return new Uint8Array(track.frames.flatMap((frame) => [...yuv420ToRgb(frame, blocks(width), height)]));
}

function blocks(length: number): number {
  return Math.ceil(length / 16) * 16;
}

/** Columns `from` to `from + count` of RGB frames of `width`. */
function columns(frames: Uint8Array, width: number, from: number, count: number): Uint8Array {
  return frames.filter((_, i) => {
    const x = Math.floor(i / 3) % width;
    return x >= from && x < from + count;
  });
}

Deno.test("one prompt under several settings: true figures, clips that others can read, a page by itself", async (t) => {
  await inTempDir(async (dir) => {
    const prompt = `a "red" circle <script>alert('x')</script> & more`;
    const out = join(dir, "study");
    const settings = [
      "full",
      "again: full",
      "few: full steps=1",
      `near: ${SLIDING}`,
      "vorta tau=0.5 router=r.safetensors",
    ];
    await saveRouter(join(dir, "r.safetensors"), undecidedRouter(), SIZES);
    const args = ["compare", prompt, "--out", out, ...SMALL, ...settings.flatMap((words) => ["-s", words])];
    const { code, out: said, err } = await tilereel(args, { cwd: dir });
    assertEquals(code, 0, err);
    const folder = "a-red-circle-script-alert-x-script-more-0";
    // "again" is the same clip as "full".
    const clips = ["full", "full", "few", "near", "vorta-tau-0-5-router-r-safetensors"];
    const names = [...new Set(clips)];
    const files = names.flatMap((name) => [`${name}.mp4`, `${name}.png`]);
    const table = JSON.parse(await Deno.readTextFile(join(out, "table.json")));
    const full = await framesOf(dir, prompt);
    const few = await framesOf(dir, prompt, "--steps", "1");

    await t.step("files", () => {
      const others = [...names.flatMap((name) => [`${name}.json`, `${name}.rgb.gz`])];
      const inside = [...files, ...others, "side-by-side.json", "side-by-side.mp4"].map((name) => `${folder}/${name}`);
      assertEquals(listFiles(out), [`${folder}/`, ...inside, "report.html", "table.json"].sort());
    });
    await t.step("samples without loss, as gzip unpacks them", async () => {
      const packed = new Blob([await Deno.readFile(join(out, folder, "few.rgb.gz"))]).stream();
      const samples = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).bytes();
      assertEquals(samples, few);
    });
    await t.step("likeness is that of the samples that generate makes with the same settings", () => {
      const [first, again, fewer] = table.settings;
      assertEquals([first.psnr, first.ssim, again.psnr, again.ssim], [null, 1, null, 1]);
      assertAlmostEquals(fewer.psnr, psnr(few, full), 1e-9);
      const video = (data: Uint8Array) => ({ width: SIZE, height: SIZE, frames: FRAMES, fps: 16, data });
      assertAlmostEquals(fewer.ssim, naiveSsim(video(few), video(full)), 1e-9);
      assert(fewer.ssim < 0.99);
    });
    await t.step("seconds", () => {
      for (const { seconds, speedup } of table.settings) {
        assert(0 < seconds.denoise && seconds.denoise < seconds.total, JSON.stringify(seconds));
        assertAlmostEquals(speedup, table.settings[0].seconds.denoise / seconds.denoise, 1e-9);
      }
      assertEquals(table.prompts[0].clips.map(({ steps }: { steps: number }) => steps), [2, 2, 1, 2, 2]);
    });
    await t.step("density, and routes of 2 steps, 8 layers and 8 heads", () => {
      const densities = table.settings.map(({ density }: { density: number }) => density);
      // Of 2x4x4 tokens each sees its own tile of four; buckets of eight keep four.
      assertEquals(densities.slice(0, 4), [1, 1, 1, 1 / 8]);
      const { routes, timesteps } = table.prompts[0].clips[4];
      assertEquals([timesteps.length, timesteps[0] > timesteps[1]], [2, true]);
      assertEquals(routes.map((layers: string[]) => layers.map((heads) => heads.length)), [
        new Array(8).fill(8),
        new Array(8).fill(8),
      ]);
      const branches = [...routes.flat().join("")].map(Number);
      assertEquals([...new Set(branches)].sort(), [0, 1, 2]);
      const mean = branches.reduce((sum, branch) => sum + [1, 1 / 4, 1 / 8][branch]!, 0) / branches.length;
      assertAlmostEquals(densities[4], mean, 1e-12);
    });
    await t.step("what is printed", () => {
      const lines = said.split("\n");
      assertEquals(lines[0]!.trim().split(/ {2,}/), [
        ...["setting", "denoising", "total", "speed", "density", "blocks", "PSNR", "SSIM", "flicker", "churn"],
      ]);
      assertEquals(lines[1]!.trim().split(/ {2,}/).slice(-5), ["100.0 %", "–", "–", "–", "–"]);
      assertEquals(lines[2]!.trim().split(/ {2,}/).slice(-4), ["equal", "1.0000", "1.000", "–"]);
      assertStringIncludes(said, join(out, "report.html"));
    });
    await t.step("each clip, and all side by side in their order", async () => {
      const near = await framesOf(dir, prompt, "--attention", "sliding", "--tile", "1x2x2", "--window", "1x1x1");
      const made = [full, full, few, near];
      for (const [i, clip] of made.entries()) {
        const quality = psnr(await decoded(join(out, folder, `${clips[i]}.mp4`), SIZE, SIZE), clip);
        assert(quality > 25, `${clips[i]}: ${quality} dB`);
      }
      const width = 5 * SIZE + 4 * 4;
      const all = await decoded(join(out, folder, "side-by-side.mp4"), width, SIZE);
      for (const [i, clip] of made.entries()) {
        const quality = psnr(columns(all, blocks(width), i * (SIZE + 4), SIZE), clip);
        assert(quality > 25, `clip ${i} side by side: ${quality} dB`);
      }
    });
    await t.step("the page has the very clips in it, the prompt as text, and nothing from elsewhere", async () => {
      const page = await Deno.readTextFile(join(out, "report.html"));
      for (const name of files) {
        assertStringIncludes(page, `;base64,${(await Deno.readFile(join(out, folder, name))).toBase64()}"`);
      }
      assertStringIncludes(
        page,
        "a &quot;red&quot; circle &lt;script&gt;alert(&apos;x&apos;)&lt;/script&gt; &amp; more",
      );
      assertEquals(page.match(/<script/g)!.length, 1);
      assertEquals(page.match(/https?:|\bsrc="(?!data:)|\bhref=|url\(/g), null);
      assertStringIncludes(page, "the same as full");
      assertStringIncludes(page, "full steps=1");
      assertEquals(page.match(/Routes of/g)!.length, 1);
      assertEquals(page.match(/"Layer \d: /g)!.length, 8);
    });
  });
});

Deno.test("a comparison renders only what is new or changed, and is made anew from all", () =>
  inTempDir(async (dir) => {
    const prompts = join(dir, "p.jsonl"), out = join(dir, "study");
    const lines = ['{"prompt": "a red circle", "seed": 5}', '{"prompt": "a blue square", "size": "48x32"}'];
    const write = (...lines: string[]) => Deno.writeTextFile(prompts, lines.join("\n"));
    await write(...lines);
    const small = ["--size", "32x32", "--frames", "5", "--steps", "1", "--guidance", "1"];
    const compare = (...args: string[]) => tilereel(["compare", "--prompts", prompts, "--out", out, ...small, ...args]);
    const ran = async (...args: string[]) => {
      const { code, out, err } = await compare(...args);
      assertEquals(code, 0, err);
      return out;
    };
    const table = async () => JSON.parse(await Deno.readTextFile(join(out, "table.json")));
    const changed = async () =>
      Object.fromEntries(
        await Promise.all(
          listFiles(out).filter((name) => name.endsWith(".mp4"))
            .map(async (name) => [name, (await Deno.stat(join(out, name))).mtime!.getTime()]),
        ),
      );
    const two = ["-s", "full", "-s", "guided: full guidance=2"];
    assertEquals(await ran(...two, "--quiet"), "");
    const first = await table(), before = await changed();
    assertEquals(
      first.prompts.map(({ seed, width, height }: Record<string, number>) => [seed, width, height]),
      [[5, 32, 32], [0, 48, 32]],
    );
    assertEquals(Object.keys(before), [
      ...["full", "guided", "side-by-side"].map((name) => `a-blue-square-0/${name}.mp4`),
      ...["full", "guided", "side-by-side"].map((name) => `a-red-circle-5/${name}.mp4`),
    ]);

    // One more setting and one more prompt, each before what was there; another name; a damaged and a lost clip.
    await write('{"prompt": "a green cross"}', ...lines);
    await Deno.remove(join(out, "a-red-circle-5/guided.mp4"));
    const more = ["-s", "full", "-s", "scheduler=euler", "-s", "renamed: full guidance=2"];
    assertStringIncludes(await ran(...more), "3 of 9 clips exist already and are kept.\n");
    const second = await table(), after = await changed();
    const kept = Object.keys(before).filter((name) => before[name] === after[name]);
    assertEquals(kept, ["a-blue-square-0/full.mp4", "a-blue-square-0/guided.mp4", "a-red-circle-5/full.mp4"]);
    const likeness = (all: typeof first, prompt: number, setting: number) => {
      const { psnr, ssim } = all.prompts[prompt].clips[setting];
      return [psnr, ssim];
    };
    assertEquals(likeness(second, 1, 2), likeness(first, 0, 1));
    assertEquals(likeness(second, 2, 2), likeness(first, 1, 1));
    assertEquals(second.prompts[2].clips[2].seconds, first.prompts[1].clips[1].seconds);
    assertEquals(second.settings.map(({ setting }: { setting: string }) => setting), [
      ...["full", "scheduler=euler", "renamed"],
    ]);
    const shown = await readMp4(await Deno.readFile(join(out, "a-blue-square-0/side-by-side.mp4")));
    assertEquals([shown.width, shown.height], [3 * 48 + 2 * 4, 32]);

    // The first setting is what others are measured against: also those that are kept.
    assertStringIncludes(await ran(...more.slice(2), "-s", "full"), "9 of 9 clips exist already and are kept.\n");
    const third = await table();
    assertEquals(third.prompts[1].clips[0].psnr, null);
    assertAlmostEquals(third.prompts[1].clips[2].psnr, psnrOf(second, 1, 1), 1e-9);

    // What was made otherwise is made anew.
    assertEquals((await ran(...two, "--steps", "2")).includes("are kept"), false);
    assertEquals((await table()).prompts[0].clips[0].steps, 2);
  }));

// deno-lint-ignore no-explicit-any
function psnrOf(table: any, prompt: number, setting: number): number {
  return table.prompts[prompt].clips[setting].psnr;
}

Deno.test({
  name: "Ctrl-C keeps the clips of a comparison that are there, and says how to continue",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      const line = ["compare", "a red circle", "--size", "32x32", "--frames", "5", "--guidance", "1", "--out", "study"];
      const settings = ["-s", "steps=1", "-s", "long: steps=1000"];
      const { process, output, until } = start(dir, "cli/main.ts", [...line, ...settings]);
      const record = join(dir, "study/a-red-circle-0/steps-1.json");
      await until(() => Deno.stat(record).then(() => true, () => false));
      process.kill("SIGINT");
      const { code, out, err } = await output;
      assertEquals(code, 130, err);
      assertStringIncludes(out, "Stopped with 1 of 2 clips, which are kept. Continue with:\n  tilereel compare 'a red");
      const made = ["json", "mp4", "png", "rgb.gz"].map((end) => `study/a-red-circle-0/steps-1.${end}`);
      assertEquals(listFiles(dir), ["study/", "study/a-red-circle-0/", ...made]);
      const again = await tilereel([...line, "-s", "steps=1", "-s", "steps=2"], { cwd: dir });
      assertEquals(again.code, 0, again.err);
      assertStringIncludes(again.out, "1 of 2 clips exist already and are kept.");
    }),
});
