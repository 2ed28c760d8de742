/** The figures of the docs: how they are measured, and the tables, plots and estimates that are made from them. */
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { clipShapeOf, measuredRates, ratesOf } from "../../bench/figures/estimates.ts";
import { Results, type Stored } from "../../bench/figures/measured.ts";
import { stepPlot, svgOf, ticksFor, tokensPlot } from "../../bench/figures/plots.ts";
import { clipsTable, clipsText, demoKernels, demoTimes, stepText } from "../../bench/figures/clip_tables.ts";
import { figuresTable } from "../../bench/figures/rows.ts";
import type { Figure } from "../../bench/figures/sections.ts";
import { filled, generated, newestOf, readStored } from "../../bench/figures/write_docs.ts";
import { clipSeconds, clipWork } from "../../model/estimate/clip_time.ts";
import { GPUS, MEASURED_GPU } from "../../model/estimate/gpus.ts";
import { RATES } from "../../model/estimate/rates.ts";
import { execute, inTempDir, program, ROOT } from "../process.ts";

/** A run of made-up figures: full attention takes 3 s a step, and half of the time in int8. */
function made(source: string): Stored["runs"][number] {
  const of = (id: string, value: number, more: Partial<Figure> = {}) =>
    ["f16", "int8"].map((precision): Figure => ({
      ...{ id, unit: "s", precision, ...more },
      value: id.endsWith("rate") || id.startsWith("gemm") || precision === "f16" ? value : value / 2,
    }));
  return {
    ...{
      adapter: "H200",
      source,
      date: "2026-11-30T01:02:03Z",
      commit: "c0ffee",
      size: "large",
      features: [],
      failures: [],
      seconds: {},
    },
    figures: [
      ...of("gemm/narrow", 500),
      ...of("step/1.3b/full", 3, { density: 1 }),
      ...of("step/1.3b/veda 0.1", .9, { density: .09 }),
      ...of("step/1.3b/vorta 0.3", 2),
      ...of("step/1.3b/no attention", .7),
      ...of("attention/32760/dense", 40, { tokens: 32760 }),
      ...of("attention/32760/veda 0.1", 4, { tokens: 32760 }),
      ...of("waver/veda 0.05", 200, { note: "Waver, 189 frames" }),
      ...of("decode/480p", 4),
      ...of("clip/fastwan", 4),
      ...of("hunyuan/50 steps", 3000),
      ...of("hunyuan/50 steps, VORTA", 1500),
      ...of("hunyuan/6 steps", 300),
      ...of("demo/full/denoising", 1, { density: 1 }),
      ...of("demo/full/decoding", .2),
      ...of("demo/full/step", .05),
      ...of("demo/full/kernels/dense attention", 800),
      ...of("demo/veda keep=0.1/denoising", .25, { density: .145 }),
      ...of("demo/veda keep=0.1/decoding", .2),
      ...of("demo/veda keep=0.1/step", .0125),
      ...of("demo/veda keep=0.1/kernels/attention by a plan", 90),
      ...of("demo/veda keep=0.1/kernels/the rest", 110),
    ],
  };
}

const TORCH = {
  results: [
    { shape: "1.3b", what: "forward, compiled, one block x 30", ms: 600 },
    { shape: "1.3b", what: "forward, flex 0.1, one block x 30", ms: 200, density: .1 },
    { shape: "tokens", what: "attention, SDPA default", ms: 12, tflops: 560, tokens: 32760 },
  ],
};
const RESULTS = new Results({ runs: [made("dawn"), made("deno")], torch: [TORCH] });
/** The cells of a row of a Markdown table whose first cell is this. */
const rowOf = (table: string, first: string) =>
  table.split("\n").map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim())).find(([cell]) =>
    cell === first
  );

Deno.test("the table has each figure beside its goal and PyTorch's, and what reached its goal is bold", () => {
  const table = figuresTable(RESULTS);
  assertEquals(rowOf(table, "GEMM 32760×1536×8960, T(FL)OP/s")!.slice(1, 7), [
    ...["≥ 430 / 800, Deno ≥ – / 95", "**500**", "500", "500", "**500**", ""],
  ]);
  const step = rowOf(table, "a step of 1.3B 480p×81, full attention, s")!;
  assertEquals(step.slice(1), [
    ...["Deno ≤ 9", "3.00", "1.50", "**3.00**", "**1.50**", "1.20"],
    "outside attention, f16: 0.700 s on Dawn, 0.700 s on Deno",
  ]);
  assertEquals(rowOf(table, "…, speed-up of VORTA")!.slice(2, 4), ["1.50", "1.50"]);
  // The goal is for more frames than were measured.
  assertEquals(rowOf(table, "…, Veda at keep 0.05, ms")!.slice(2, 4), ["200", "100"]);
  assertEquals(rowOf(table, "its efficiency, 32,760 tokens"), undefined);
});

Deno.test("clips have their ratio to full attention, and a table of which nothing was measured stays", () => {
  assertEquals(rowOf(clipsTable(RESULTS, "hunyuan", "HunyuanVideo")!, "6 steps"), ["6 steps", "300", "10.00"]);
  assertEquals(clipsTable(RESULTS, "14b", "Wan 14B"), undefined);
  assertEquals(clipsText(RESULTS), "2.0 s for FastWan in int8, and 25 min for HunyuanVideo with VORTA in f16");
  const torch = "compiled PyTorch takes 1.20 s, and 0.40 s with a sparse attention of its own";
  assertEquals(stepText(RESULTS), `3.00 s, and 0.45 s with Veda in int8; ${torch}`);
  assertEquals(rowOf(demoTimes(RESULTS)!, "full")!.slice(1), ["100.0%", "1.00", "", "50", "1.20", ""]);
  const veda = "veda keep=0.1";
  assertEquals(rowOf(demoTimes(RESULTS)!, veda)!.slice(1), ["14.5%", "0.25", "4.00×", "13", "0.45", "2.67×"]);
  assertEquals(rowOf(demoKernels(RESULTS)!, veda)!.slice(1), ["0", "90", "0", "0", "110", "200"]);
  const none = new Results({ ...RESULTS.stored, runs: [] }), text = "a <!-- figures: clips -->2 s<!-- end -->.";
  for (const table of [stepText, clipsText, demoTimes, demoKernels]) assertEquals(table(none), undefined);
  assertEquals(filled(text, none), text);
  assertEquals(filled(text, RESULTS), `a <!-- figures: clips -->${clipsText(RESULTS)}<!-- end -->.`);
});

Deno.test("a table or a column that is of an earlier version than the newest figures says so", () => {
  const of = (run: Stored["runs"][number], day: number, commit: string, prefix = ""): Stored["runs"][number] => ({
    ...{ ...run, commit, date: `2026-11-0${day}T01:02:03Z` },
    figures: run.figures.filter(({ id }) => id.startsWith(prefix)).map((figure) => ({ ...figure, value: day })),
  });
  const dawn = made("dawn"), runs = [of(dawn, 1, "0ld"), of(made("deno"), 2, "m1ddle"), of(dawn, 3, "new", "demo/")];
  const results = new Results({ runs, torch: [] });
  const about = "One H200, 2026-11-03, commit new.";
  assertEquals(
    filled("<!-- figures: about --><!-- end -->", results),
    `<!-- figures: about -->${about} Dawn's columns are of commit 0ld, 2026-11-01. ` +
      "Deno's columns are of commit m1ddle, 2026-11-02.<!-- end -->",
  );
  assertStringIncludes(
    clipsTable(results, "hunyuan", "HunyuanVideo")!,
    "This table is of an earlier version (commit 0ld, 2026-11-01). `deno run -A bench/figures.ts --only hunyuan` " +
      "measures it again.\n\n| HunyuanVideo",
  );
  assertEquals(rowOf(clipsTable(results, "hunyuan", "HunyuanVideo")!, "6 steps"), ["6 steps", "1", "1.00"]);
  // Measured twice: the last counts, and its rows are there once.
  const demo = demoTimes(results)!;
  assertEquals(demo.split("\n").length, 4);
  assertEquals(rowOf(demo, "full")![2], "3.00");
  const again = new Results({ runs: [...runs, of(dawn, 4, "newest", "step/")], torch: [] });
  const both = "Dawn's columns are of commit 0ld, 2026-11-01, and of commit newest, 2026-11-04.";
  assertStringIncludes(filled("<!-- figures: about --><!-- end -->", again), both);
});

Deno.test("plots are SVG with a line for each program, with the points where they belong", () => {
  const step = svgOf(stepPlot(RESULTS)), tokens = svgOf(tokensPlot(RESULTS));
  assertEquals(step.match(/<circle/g)!.length, 4 * 2 + 2);
  for (const name of ["Dawn, f16", "Deno, int8", "PyTorch, bf16, flex"]) assertStringIncludes(step, `>${name}</text>`);
  assertStringIncludes(step, "prefers-color-scheme: dark");
  assertEquals(tokens.match(/<circle/g)!.length, 4 * 2 + 1);
  const svg = svgOf({
    ...{ title: `a < "b" & c`, x: { label: "x", ticks: [1, 10, 100] }, y: { label: "y", ticks: [1, 100] } },
    series: [{ name: "s", colour: "red", points: [[10, 10], [1000, 10], [1, 1]] }],
  });
  assertStringIncludes(svg, 'aria-label="a &lt; &quot;b&quot; &amp; c"');
  // In the middle of both axes; then in the corner. What is beyond the ticks is left out.
  assertStringIncludes(svg, `d="M70.0 404.0L330.0 224.0"`);
  assertEquals(svg.match(/<circle/g)!.length, 2);
  assertEquals(ticksFor([.3, 7]), [.2, .5, 1, 2, 5, 10]);
});

Deno.test("the generated parts of the docs are made from docs/figures.json", async () => {
  const plain = (text: string) => text.replaceAll(/[ \n]+/g, " ").replaceAll(/-{2,}/g, "-").replaceAll(/ *\| */g, "|");
  for (const [path, text] of Object.entries(await generated(new Results(readStored())))) {
    const found = await Deno.readTextFile(join(ROOT, path));
    assertEquals(
      plain(found).replaceAll(",}", "}"),
      plain(text).replaceAll(",}", "}"),
      `${path}: run deno task figures`,
    );
  }
  assertEquals(
    filled("a <!-- figures: about -->\n\nold\n\n<!-- end --> b", RESULTS),
    "a <!-- figures: about -->\n\nOne H200, 2026-11-30, commit c0ffee.\n\n<!-- end --> b",
  );
});

Deno.test("PyTorch's results that were not measured again stay", () => {
  const [first, ...others] = TORCH.results, again = { ...first!, ms: 500 };
  assertEquals(newestOf([TORCH, { results: [again] }]), { results: [again, ...others] });
});

Deno.test("estimates give back what was measured, and change with what is published", () => {
  const rates = ratesOf(RESULTS), size = { width: 832, height: 480, frames: 81 };
  const shape = clipShapeOf({ model: "1.3B", size }), step = (density: number) => clipWork(shape, 2, density);
  assertEquals(rates.matrix.f16.narrow, measuredRates(RESULTS, "dawn", "f16", "narrow"));
  assertEquals(measuredRates(RESULTS, "dawn", "f16", "wide"), undefined);
  const seconds = (work: ReturnType<typeof step>, gpu = MEASURED_GPU, precision: "f16" | "int8" = "f16") =>
    clipSeconds(gpu, work, precision, rates);
  assertAlmostEquals(seconds(step(1)).steps, 3, 1e-6);
  assertAlmostEquals(seconds(step(.09)).steps, .9, 1e-6);
  assertAlmostEquals(seconds(step(1), MEASURED_GPU, "int8").steps, 1.5, 1e-6);
  assertAlmostEquals(seconds(step(1)).decode, 4, 1e-6);
  // The transformer of 1.3B has 1.4·10⁹ weights, of which each token meets nearly all.
  assert(Math.abs(shape.layers * shape.layerWeights / 1.3e9 - 1) < .1);
  const hunyuan = clipShapeOf({ model: "HunyuanVideo", size: { width: 1280, height: 720, frames: 117 } });
  assertEquals([hunyuan.tokens, hunyuan.layers, hunyuan.textTokens], [30 * 45 * 80 + 256, 60, 0]);
  for (const gpu of GPUS.slice(1)) {
    const here = seconds(step(1), gpu), sparse = seconds(step(.09), gpu);
    assert(here.steps >= 3 && here.decode > 0, gpu.name);
    assert(sparse.steps < here.steps && seconds(step(1), gpu, "int8").steps < here.steps, gpu.name);
    assert(GPUS.filter(({ matches }) => matches.test(`NVIDIA GeForce ${gpu.name}`)).length <= 1, gpu.name);
  }
  const order = ["H100 SXM", "RTX 4090", "RTX 4070", "RTX 3060 12 GB"].map((name) =>
    seconds(step(1), GPUS.find((gpu) => gpu.name === name)).steps
  );
  assertEquals(order, order.toSorted((a, b) => a - b));
  for (const of of Object.values(RATES).flatMap((path) => Object.values(path)).flatMap((both) => Object.values(both))) {
    assert(of.linear > 1e12 && of.dense > 1e12 && of.sparse > 1e12 && of.decode > 0);
  }
});

/** Runs sections of bench/figures.ts in small sizes. */
async function measured(...args: string[]): Promise<Stored["runs"][number]> {
  let run: Stored["runs"][number] | undefined;
  await inTempDir(async (dir) => {
    const save = join(dir, "figures-deno.json"), small = ["--gpu", "software", "--size", "small", "--save", save];
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "bench/figures.ts", ...small, ...args],
      cwd: ROOT,
    }).output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
    run = JSON.parse(await Deno.readTextFile(save));
  });
  return run!;
}

Deno.test("bench/figures.ts saves each figure, and begins nothing after its time", async () => {
  const run = await measured("--only", "gemm,step", "--seconds", "1");
  assertEquals(run.source, "deno");
  assert(run.figures.every(({ value, unit }) => value > 0 && unit === "TFLOP/s"));
  assertEquals(new Set(run.figures.map(({ id }) => id)), new Set(["gemm/narrow", "gemm/wide"]));
  assertEquals(run.failures.at(-1), { what: "step, int8", why: "no time was left" });
});

Deno.test("bench/figures.ts times how long a block's kernels compile, before anything else needs them", async () => {
  const { figures, failures } = await measured("--only", "first");
  assertEquals([figures.map(({ id }) => id), failures], [["first use/1.3b", "first use/1.3b"], []]);
  assert(figures.every(({ value, unit }) => value > 0 && unit === "s"));
});

Deno.test("deno task figures takes several folders, and names one that is not there", () =>
  inTempDir(async (dir) => {
    const run = (...args: string[]) =>
      execute(Deno.execPath(), program("bench/figures/write_docs.ts", args), { cwd: ROOT });
    const [empty, missing] = await Promise.all([run(dir, dir), run(dir, "no such folder")]);
    assertEquals([empty.code, empty.out, missing.code, missing.out], [1, "", 1, ""]);
    assertStringIncludes(empty.err, `no figures-*.json is in ${dir} or ${dir}`);
    assertStringIncludes(missing.err, "no such folder does not exist");
  }));
