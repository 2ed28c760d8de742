import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { type Judged, judgedScore } from "../../bench/quality/judged.ts";
import type { SettingResult } from "../../bench/quality/results.ts";
import { documentOf, readMeasured } from "../../bench/quality/write_docs.ts";
import { slug } from "../../tools/program/clip/slug.ts";
import { execute, inTempDir, MODEL, program, ROOT } from "../process.ts";

/** Runs the benchmark. */
async function run(...args: string[]): Promise<{ out: string; err: string }> {
  const env = { NO_COLOR: "1" };
  const { code, out, err } = await execute(Deno.execPath(), program("bench/quality.ts", args), { cwd: ROOT, env });
  assertEquals(code, 0, err);
  return { out, err };
}

const SMALL = ["--count", "1", "--size", "32x32", "--steps", "1"];

/** The results of one prompt in one step at 32x32. */
async function quality(...options: string[]): Promise<SettingResult[]> {
  return JSON.parse((await run(...SMALL, "--json", ...options)).out).results;
}

Deno.test("bench:quality renders a setting with its own steps and guidance", async () => {
  const settings = ["same: full scheduler=unipc", "steps: full steps=2", "unguided: full guidance=1"];
  const [full, ...others] = await quality(...settings.flatMap((s) => ["--setting", s]));
  assertEquals([full!.setting, full!.clips.length, full!.clips[0]!.density], ["full", 1, 1]);
  assertEquals([full!.clips[0]!.ssim, full!.clips[0]!.churn], [undefined, undefined]);
  assertEquals(others.map(({ setting }) => setting), ["same", "steps", "unguided"]);
  const likeness = others.map(({ clips }) => clips[0]!.ssim);
  assert(likeness[0] === 1 && likeness[1]! < 0.999 && likeness[2]! < 0.999, `SSIM against full: ${likeness}`);
});

Deno.test("bench:quality renders in other precisions, too, and compares them with the first", async () => {
  const [full, unguided, ...others] = await quality(
    "--also",
    "int8",
    "--setting",
    "unguided: full guidance=1",
    "--size",
    "64x64",
  );
  assertEquals([full!.setting, unguided!.setting], ["full", "unguided"]);
  assertEquals(others.map(({ setting }) => setting), ["full, int8", "unguided, int8"]);
  const [same, other] = others.map(({ clips }) => clips[0]!.ssim);
  assert(same! > 0.98 && same! < 1 && other! < 0.999, `SSIM against full: ${same} and ${other}`);
});

Deno.test("bench:quality adds a LoRA for settings, but not for full attention", async () => {
  const lora = join(MODEL, "few_steps.safetensors"), setting = "same: full scheduler=unipc";
  const [, same] = await quality("--setting", setting, "--lora", lora);
  assert(same!.clips[0]!.ssim! < 0.999, `SSIM against full: ${same!.clips[0]!.ssim}`);
});

Deno.test("bench:quality goes on with what it saved, and makes one table of parts and of what the judge saw", () =>
  inTempDir(async (dir) => {
    const saved = join(dir, "part.json"), setting = "unguided: full guidance=1";
    const options = ["--size", "32x32", "--steps", "1", "--setting", setting, "--save", saved];
    await run(...options, "--count", "1", "--out", join(dir, "clips"));
    const { err } = await run(...options, "--count", "2", "--resume", "--out", join(dir, "clips"));
    assert(!err.includes("prompt 0") && err.includes("prompt 1, unguided"), err);
    const { results } = JSON.parse(await Deno.readTextFile(saved)) as { results: SettingResult[] };
    assertEquals(results.map(({ clips }) => clips.map(({ prompt }) => prompt)), [[0, 1], [0, 1]]);
    assert(results[1]!.clips.every(({ ssim, seconds }) => ssim! < 1 && seconds.denoise > 0 && seconds.decode > 0));
    const files = async (name: string) =>
      (await Array.fromAsync(Deno.readDir(join(dir, "clips", name)))).map((f) => f.name);
    assertEquals((await files(slug("unguided"))).sort(), ["000.npy", "001.npy"]);

    // Full attention's clips are not rendered again, and likeness is the same to the last digit.
    const again = join(dir, "again.json");
    const { err: found } = await run(...options.slice(0, -1), again, "--count", "2", "--full", join(dir, "clips/full"));
    assert(!found.includes(", full:"), found);
    const likeness = (results: readonly SettingResult[]) =>
      results.find(({ setting }) => setting === "unguided")!.clips.map((
        { psnr, ssim, flicker },
      ) => [psnr, ssim, flicker]);
    assertEquals(likeness(JSON.parse(await Deno.readTextFile(again)).results), likeness(results));
    const { err: all } = await run(
      ...options.slice(0, -1),
      ...[again, "--count", "2", "--resume", "--full", join(dir, "clips/full")],
    );
    assert(!all.includes("prompt 0"), all);

    // A prompt without a reference is left out, and so is one that another process has.
    const share = ["--share", join(dir, "shared"), "--full", join(dir, "clips/full")];
    const mine = await run(...options.slice(0, -1), join(dir, "mine.json"), "--count", "3", ...share);
    assert(/prompt 1, unguided[^]*prompt 2: left out, because .*002.npy is not there/.test(mine.err), mine.err);
    const other = await run(...options.slice(0, -1), join(dir, "other.json"), "--count", "2", ...share);
    assert(!other.err.includes("prompt"), other.err);

    const times = join(dir, "times.json");
    await run("--size", "32x32", "--steps", "1", "--setting", setting, "--save", times, "--timing", "2");
    const timed = JSON.parse(await Deno.readTextFile(times)).results as SettingResult[];
    assertEquals(timed.map(({ clips }) => clips.map(({ prompt, ssim }) => [prompt, ssim])), [[[0, undefined]], [[
      0,
      undefined,
    ]]]);
    const judged = join(dir, "judged.json");
    const seen: Judged = {
      full: { 0: { count: [true] }, 1: { count: [true] } },
      unguided: { 0: { count: [true] }, 1: { count: [false] } },
    };
    await Deno.writeTextFile(judged, JSON.stringify(seen));
    const { out } = await run("--parts", `${saved},${saved}`, "--judged", judged, "--times", times);
    assertStringIncludes(out, timed[1]!.clips[0]!.seconds.denoise.toFixed(2));
    assert(out.includes("50.0% (-100.0 to 0.0)"), out);
  }));

Deno.test("bench:quality reads no tiles of clips that it times", async () => {
  const veda = ["--size", "64x64", "--steps", "2", "--setting", "veda keep=0.25 tile-shape=2x2x2 dense-steps=0"];
  const [, observed] = await quality(...veda), [, timed] = await quality(...veda, "--timing", "1");
  const [seen] = observed!.clips, [alone] = timed!.clips;
  assertEquals([typeof seen!.churn, alone!.churn], ["number", undefined]);
  assertEquals(alone!.density, seen!.density);
});

Deno.test("the judge's intervals come from pairs: what both settings miss does not widen them", () => {
  const marks = (of: (prompt: number) => boolean[]) =>
    Object.fromEntries(Array.from({ length: 40 }, (_, prompt) => [prompt, { shape: of(prompt) }]));
  const full = marks((prompt) => [prompt % 2 === 0, true]);
  const same = judgedScore(full, full, "shape")!;
  assertEquals([same.share, same.difference, same.low, same.high], [0.75, 0, 0, 0]);
  // A quarter of the prompts lose one of their two marks: an eighth of all, and 40 prompts say it within about 7 points.
  const worse = judgedScore(marks((prompt) => [prompt % 2 === 0, prompt % 4 !== 1]), full, "shape")!;
  assertEquals([worse.share, worse.difference], [0.625, -0.125]);
  assert(worse.low > -0.21 && worse.low < -0.16 && worse.high < -0.05 && worse.high > -0.09, JSON.stringify(worse));
  // Prompts that only one of them has do not count, and neither do scores that a prompt has not.
  const some = judgedScore({ 1: { shape: [false] }, 99: { shape: [true] }, 2: { shape: [] } }, full, "shape")!;
  assertEquals([some.share, some.difference], [0, -0.5]);
  assertEquals(judgedScore({ 99: { shape: [true] } }, full, "shape"), undefined);
});

Deno.test("deno task quality makes tables of the prompts that every setting has, of several calls", () =>
  inTempDir(async (dir) => {
    const clip = (prompt: number, psnr?: number) => ({
      ...{ prompt, seconds: { denoise: 2, decode: 1 }, density: 0.5 },
      ...psnr !== undefined && { psnr, ssim: 0.9, flicker: 1 },
    });
    const save = (name: string, data: unknown) => Deno.writeTextFile(join(dir, name), JSON.stringify(data));
    for (const call of ["1", "2"]) await Deno.mkdir(join(dir, call));
    const mark = (shape: boolean) => ({ color: [true], shape: [shape] });
    await save("1/512-1-study-01.json", { results: [{ setting: "full", clips: [clip(0), clip(1)] }] });
    await save("2/512-1-study-01.json", {
      results: [{ setting: "full", clips: [clip(2)] }, {
        setting: "vorta",
        clips: [clip(2, 30), clip(0, 20), clip(1, 1)],
      }],
    });
    // The judge has not looked at one of the clips.
    await save("1/judged-512.json", { full: { 0: mark(true), 1: mark(true) } });
    await save("2/judged-512.json", { full: { 2: mark(true) }, vorta: { 0: mark(true), 2: mark(false) } });
    await save("2/times-study.json", { results: [{ setting: "full", clips: [clip(0)] }] });
    // Other prompts, that settings were chosen with.
    await Deno.mkdir(join(dir, "2/validation"));
    await save("2/validation/512-1-01.json", { results: [{ setting: "full", clips: [clip(0)] }] });
    const text = documentOf(
      "a\n\n<!-- quality: study, figures -->\n\nold\n\n<!-- end -->\n\n<!-- quality: study, scores -->\n\n<!-- end -->" +
        "\n\n<!-- quality: validation -->\n\n<!-- end -->",
      await readMeasured([join(dir, "1"), join(dir, "2")]),
    );
    const cells = text.split("\n").map((line) => line.split("|").map((cell) => cell.trim()));
    const rowsOf = (name: string) => cells.filter(([, first]) => first === name).map((row) => row.slice(2));
    assert(
      text.startsWith("a\n\n<!-- quality: study, figures -->\n\n2 prompts at 512×512:") && !text.includes("old"),
      text,
    );
    assertStringIncludes(text, "<!-- quality: validation -->\n\n1 other prompts:\n\n| setting |");
    assertEquals(rowsOf("full")[0]!.slice(0, 4), ["50.0 %", "2.00", "1.00×", "3.00"]);
    assertEquals(rowsOf("vorta")[0]!.slice(0, 5), ["50.0 %", "", "", "", "25.00"]);
    // Shape, motion (which the judge did not see), and colour and shape together.
    assertEquals(rowsOf("full")[1]!.slice(0, 3), ["100.0 %", "", "100.0 %"]);
    assertEquals(rowsOf("vorta")[1]!.slice(0, 3), ["50.0 % (−100.0 to 0.0)", "", "75.0 % (−50.0 to 0.0)"]);
  }));

Deno.test("the study has the settings with the most prompts, in its order; int8 stands beside what it is compared with", () => {
  const clips = (count: number) =>
    Array.from({ length: count }, (_, prompt) => ({ prompt, seconds: { denoise: 2, decode: 1 }, density: 0.5 }));
  const of = (count: number) => (setting: string): SettingResult => ({ setting, clips: clips(count) });
  const results = [
    ...["veda keep=0.1", "veda keep 0.1, int8", "vorta", "full"].map(of(64)),
    ...["full, int8", "vorta dense-steps=1"].map(of(63)),
  ];
  const tableOf = (name: string) => {
    const measured = { 512: { run: { results }, judged: {}, times: { results: [] } } };
    const text = documentOf(`<!-- quality: ${name} -->\n\n<!-- end -->`, measured);
    const rows = text.split("\n").filter((line) => line.startsWith("|")).slice(2);
    return [/(\d+) prompts/.exec(text)?.[1], ...rows.map((row) => row.split("|").map((cell) => cell.trim()))];
  };
  const names = (name: string, column: number) => tableOf(name).slice(1).map((row) => row![column]);
  assertEquals([tableOf("study, figures")[0], ...names("study, figures", 1)], ["64", "full", "vorta", "veda keep=0.1"]);
  assertEquals([tableOf("int8")[0], ...names("int8", 2)], [
    "63",
    "full",
    "veda keep=0.1",
    "veda keep=0.1, int8",
    "full, int8",
  ]);
});
