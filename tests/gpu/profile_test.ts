/**
 * Profiles: every dispatch is in it once, in order, named; the times add up; nothing else changes. And `--profile`.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { profileSummary } from "../../tools/program/profile.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { Gpu } from "../../gpu/gpu.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import { linear } from "../../gpu/ops/linear.ts";
import { type ProfiledDispatch, Profiler } from "../../gpu/profile/profiler.ts";
import { gapsBetween, kernelTimes, stretchesOf } from "../../gpu/profile/summary.ts";
import { tickBetween } from "../../gpu/profile/tick.ts";
import { traceOf } from "../../gpu/profile/trace.ts";
import { randn, testOnGpu } from "../gpu.ts";
import { assertRefused, inTempDir, listFiles, QUICK, tilereel } from "../process.ts";

/** More than two batches of dispatches. */
const BLOCKS = 300;

testOnGpu("a profile has every dispatch once, in order, and its times add up", async (gpu) => {
  gpu.poison = false; // filling is a dispatch, too
  const x = gpu.upload(randn(64 * 64, 1), [64, 64]), w = gpu.upload(randn(64 * 64, 2), [64, 64]);
  const block = (i: number) =>
    gpu.labelled(`block ${i}`, () => gpu.scope(() => layerNorm(gpu, linear(gpu, x, w), 1e-6)));
  const expected = await gpu.read(block(0));
  const profiler = await Profiler.start(gpu);
  const start = performance.now();
  for (let i = 0; i < BLOCKS; i++) gpu.labelled("all blocks", () => gpu.release(block(i)));
  gpu.release(linear(gpu, x, w));
  await gpu.finish();
  const wall = (performance.now() - start) * 1e6;
  const dispatches = await profiler.take();

  assertEquals(dispatches.length, 2 * BLOCKS + 1);
  for (const [i, { kernel, labels, begin, end }] of dispatches.entries()) {
    assert(kernel.startsWith(i % 2 === 0 ? "gemm_" : "layer_norm"), kernel);
    const names = i === 2 * BLOCKS ? [] : ["all blocks", `block ${i >> 1}`];
    assertEquals(labels.map(({ name }) => name), names);
    assert(begin < end && (i === 0 || begin >= dispatches[i - 1]!.end), `dispatch ${i}: ${begin} to ${end}`);
  }
  const [all] = stretchesOf(dispatches);
  assert(all!.busy > 0 && all!.busy <= all!.span && all!.span <= wall, JSON.stringify({ all, wall }));
  // The GPU, or what stands for it, had little else to do.
  assert(all!.span > 0.3 * wall, JSON.stringify({ all, wall }));

  // What is profiled computes the same, and what comes later is taken by itself.
  const y = block(7);
  assertEquals(await gpu.read(y), expected);
  assertEquals((await profiler.take()).map(({ labels }) => labels[0]?.name), ["block 7", "block 7"]);
  profiler.stop();
  assertEquals(gpu.profiler, undefined);
  assertEquals(await gpu.read(block(8)), expected);
});

testOnGpu("labels follow work that waits, and work that fails", async (gpu) => {
  const profiler = await Profiler.start(gpu);
  const x = gpu.tensor([4, 4]), w = gpu.tensor([4, 4]);
  gpu.poison = false;
  await profiler.take();
  await gpu.labelled("waits", async () => {
    gpu.release(linear(gpu, x, w));
    await gpu.finish();
    gpu.labelled("inner", () => gpu.release(linear(gpu, x, w)));
    gpu.release(linear(gpu, x, w));
  });
  await assertRejects(async () => await gpu.labelled("fails", () => Promise.reject(new Error("as it should"))));
  try {
    gpu.labelled("fails", () => {
      throw new Error("as it should");
    });
  } catch { /* as it should */ }
  gpu.release(linear(gpu, x, w));
  const labels = (await profiler.take()).map(({ labels }) => labels.map(({ name }) => name).join());
  assertEquals(labels, ["waits", "waits,inner", "waits", ""]);
  profiler.stop();
});

testOnGpu(
  "a profile asks for no times before it is taken: Deno stands still until what it asks for is there",
  async (gpu) => {
    const { device } = gpu, create = device.createBuffer.bind(device);
    let asked = 0;
    device.createBuffer = (descriptor) => {
      const buffer = create(descriptor), map = buffer.mapAsync.bind(buffer);
      buffer.mapAsync = (mode) => {
        asked++;
        return map(mode);
      };
      return buffer;
    };
    const profiler = await Profiler.start(gpu);
    const before = asked;
    const x = gpu.upload(randn(16, 1), [4, 4]), w = gpu.upload(randn(16, 2), [4, 4]);
    for (let i = 0; i < BLOCKS; i++) gpu.release(linear(gpu, x, w));
    await gpu.finish();
    assertEquals(asked, before);
    const dispatches = await profiler.take();
    assert(asked > before + 1 && dispatches.length >= BLOCKS, `${asked} buffers, ${dispatches.length} dispatches`);
    profiler.stop();
  },
);

testOnGpu("an adapter without timestamps is told in one sentence", async ({ device, settings }) => {
  const gpu = new Gpu(device, { ...settings, description: { ...settings.description, features: [] } });
  await assertRejects(() => Profiler.start(gpu), TilereelError, "has no timestamp-query, which a profile needs");
});

Deno.test("a tick is a nanosecond, unless two looks at the clock say otherwise", () => {
  const first = { ticks: 10n ** 18n, before: 1000, after: 1010 };
  // Between 60 and 90 ms passed.
  const after = (ticks: number) =>
    tickBetween(first, { ticks: first.ticks + BigInt(ticks), before: 1070, after: 1090 });
  assertEquals([after(60e6), after(75e6), after(90e6)], [1, 1, 1]);
  assertEquals([after(7e6), after(7e8)], [10, 0.1]);
  // A clock that was set back says nothing.
  assertEquals([after(0), after(-5)], [1, 1]);
});

const [denoise, decode, step] = [{ name: "denoise" }, { name: "decode" }, { name: "step 1" }];
const INVENTED: ProfiledDispatch[] = [
  { kernel: "gemm", labels: [denoise, step], begin: 1000, end: 3000 },
  { kernel: "norm", labels: [denoise, step], begin: 4000, end: 4500 },
  { kernel: "gemm", labels: [decode], begin: 9000, end: 10000 },
  { kernel: "norm", labels: [{ name: "denoise" }], begin: 20000, end: 21000 },
];

Deno.test("a summary has the parts with their gaps, and the kernels that took most of the time", () => {
  assertEquals(stretchesOf(INVENTED), [
    { name: "all", span: 20000, busy: 4500 },
    // Twice, of 3500 and 1000 nanoseconds; what lies between is not its own.
    { name: "denoise", span: 4500, busy: 3500 },
    { name: "decode", span: 1000, busy: 1000 },
  ]);
  assertEquals(kernelTimes(INVENTED), [
    { kernel: "gemm", count: 2, time: 3000 },
    { kernel: "norm", count: 2, time: 1500 },
  ]);
  assertEquals(gapsBetween(INVENTED), [
    { before: "gemm", after: "norm", count: 2, time: 11000, longest: 10000 },
    { before: "norm", after: "gemm", count: 1, time: 4500, longest: 4500 },
  ]);
  const lines = profileSummary(INVENTED, "p.json").split("\n").map((line) => line.trim().split(/ {2,}/));
  assertEquals(lines[0], ["p.json: the profile of 4 dispatches of 2 kernels"]);
  assertEquals(lines[2], ["all", "0.0", "22.5 %", "77.5 %"]);
  assertEquals(lines[6], ["gemm", "2", "0.0", "66.7 %"]);
  assertEquals(lines.slice(8), [
    ["gaps behind", "before", "gaps", "ms", "longest"],
    ["gemm", "norm", "2", "0.0", "0.0"],
    ["norm", "gemm", "1", "0.0", "0.0"],
  ]);
  assertEquals(profileSummary([], "p.json").split("\n")[0], "p.json: the profile of 0 dispatches of 0 kernels");
});

Deno.test("what comes after the first step is measured by itself, for there kernels are compiled", () => {
  const again = { name: "denoise" };
  const at = (labels: readonly { name: string }[], begin: number, end: number) => ({ kernel: "k", labels, begin, end });
  const steps = [{ name: "step 1" }, { name: "step 2" }, { name: "step 1" }] as const;
  const dispatches = [
    ...[at([denoise], 0, 10), at([denoise, steps[0]], 500, 600), at([denoise], 610, 620)],
    ...[at([denoise, steps[1]], 630, 700), at([decode], 900, 950), at([again, steps[2]], 1000, 1100)],
  ];
  assertEquals(stretchesOf(dispatches), [
    { name: "all", span: 1100, busy: 340 },
    { name: "denoise", span: 800, busy: 290 },
    { name: "denoise, after step 1", span: 190, busy: 180 },
    { name: "decode", span: 50, busy: 50 },
  ]);
});

Deno.test("a trace has an event for each dispatch, and one for each label around it", () => {
  const { traceEvents } = JSON.parse(traceOf(INVENTED, "a test"));
  const shown = traceEvents.filter(({ ph }: { ph: string }) => ph === "X")
    .map(({ name, tid, ts, dur }: Record<string, unknown>) => [name, tid, ts, dur]);
  assertEquals(shown, [
    ...[["denoise", 1, 0, 3.5], ["step 1", 1, 0, 3.5], ["decode", 1, 8, 1], ["denoise", 1, 19, 1]],
    ...[["gemm", 2, 0, 2], ["norm", 2, 3, 0.5], ["gemm", 2, 8, 1], ["norm", 2, 19, 1]],
  ]);
  assertEquals(JSON.parse(traceOf([], "nothing")).traceEvents.length, 3);
});

Deno.test("generate --profile writes a trace and says what took the time", async (t) => {
  await inTempDir(async (dir) => {
    const [out, trace] = [join(dir, "x.mp4"), join(dir, "new/trace.json")];
    const args = ["generate", "a red circle", ...QUICK, "--seed", "3", "--out", out];
    await t.step("beside the clip, which is the same", async () => {
      const plain = await tilereel(args);
      assertEquals(plain.code, 0, plain.err);
      const clip = await Deno.readFile(out);
      const { code, out: said, err } = await tilereel([...args, "--profile", trace]);
      assertEquals(code, 0, err);
      assertEquals(await Deno.readFile(out), clip);
      for (const part of [`${trace}: the profile of `, "GPU busy", "denoise", "decode", "gemm_"]) {
        assertStringIncludes(said, part);
      }
      const { traceEvents } = JSON.parse(await Deno.readTextFile(trace));
      const names = new Set(traceEvents.map(({ name }: { name: string }) => name));
      for (const name of ["encode prompt", "denoise", "step 1", "prompt", "block 0", "decode"]) {
        assert(names.has(name), name);
      }
      assertEquals(listFiles(dir), ["new/", "new/trace.json", "x.mp4"]);
    });
    await t.step("nowhere, where it cannot be written or the clip fails", async () => {
      const before = listFiles(dir);
      assertRefused(await tilereel([...args, "--profile", join(trace, "in-a-file.json")]), "cannot write");
      const failing = [...args, "--profile", join(dir, "y.json"), "--memory", "1MiB"];
      assertRefused(await tilereel(failing), "too little memory");
      assertEquals(listFiles(dir), before);
    });
  });
});
