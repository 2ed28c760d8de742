import { dryGpu } from "../../gpu/device/dry.ts";
import { pyramidAttentionBroadcast } from "../../model/cache/pab.ts";
import { measureHeadline } from "../../bench/headline.ts";
import { cachedSteps } from "../../bench/headline/cached_steps.ts";
import { headlineModels } from "../../bench/headline/models.ts";
import { openTransformer } from "../../bench/steps/transformer.ts";
import { measuredOn } from "../../bench/program.ts";
import { report } from "../../bench/targets.ts";
import { readMeasured } from "../../bench/targets/measured.ts";
import { targetRows } from "../../bench/targets/rows.ts";
import { SHAPES } from "../../bench/shapes.ts";
import { randomSource } from "../../bench/full_size/made_source.ts";
import { plainOnly, testVariants } from "../gpu.ts";
import { assert, assertEquals } from "@std/assert";

Deno.test("bench: steps are counted by what PAB does in them", async () => {
  const gpu = dryGpu(), { family, shape } = SHAPES.small.model(randomSource);
  const task = {
    ...{ gpu, model: { family, shape }, passes: ["prompt"] as const, gridTokens: 4 },
    ...{ timesteps: [999, 900, 700, 600, 500, 400, 300, 90], sigmas: [1, 0.9, 0.7, 0.6, 0.5, 0.4, 0.3, 0.09, 0] },
  };
  const counts = async (modules: ("self" | "cross")[]) => {
    using split = await cachedSteps(pyramidAttentionBroadcast(), task, modules);
    return split.kinds.map(({ name, steps, self, fill }) => [name, steps, self, fill !== undefined]);
  };
  assertEquals(await counts(["self"]), [
    ["attention computed", [0, 1, 6, 7], "computed", false],
    ["attention kept", [2, 4], "kept", false],
    ["attention reused", [3, 5], "reused", true],
  ]);
  assertEquals(await counts(["self", "cross"]), [
    ["self-attention computed, cross-attention computed", [0, 6, 7], "computed", false],
    ["self-attention computed, cross-attention kept", [1], "computed", false],
    ["self-attention kept, cross-attention reused", [2, 4], "kept", true],
    ["self-attention reused, cross-attention reused", [3, 5], "reused", true],
  ]);
});

testVariants("bench: a block does as PAB has it do, any number of times", async ({ gpu }) => {
  gpu.placeholder; // made once and never freed
  const { shape } = headlineModels("small").clips.hunyuan, before = gpu.memory.used;
  {
    using transformer = await openTransformer(gpu, shape, [1, 1]);
    const { family, scheduler } = shape.model(randomSource), held = gpu.memory.used;
    assertEquals(scheduler.sigmas, "hunyuan");
    {
      using split = await cachedSteps(pyramidAttentionBroadcast(), {
        ...{ gpu, model: { family, shape: shape.config }, passes: ["prompt"], gridTokens: 4 },
        ...{ timesteps: [900, 900, 700, 600, 50], sigmas: [0.9, 0.9, 0.7, 0.6, 0.05, 0] },
      }, ["self"]);
      for (const { name, hooks, fill } of split.kinds) {
        for (const kind of [0, 1]) {
          let runs = 0;
          if (fill) transformer.block(kind, (_q, _k, v) => v, fill);
          for (let i = 0; i < 3; i++) transformer.block(kind, (_q, _k, v) => (runs++, v), hooks);
          assertEquals(runs, name === "attention reused" ? 0 : 3, `${name} ${kind}`);
        }
      }
    }
    await gpu.finish();
    assertEquals(gpu.memory.used, held);
  }
  assertEquals(gpu.memory.used, before);
}, plainOnly);

Deno.test("bench: the headline's rows are HunyuanVideo with each and with all that makes it faster", async () => {
  const gpu = dryGpu();
  const run = await measureHeadline(gpu, measuredOn(gpu), { size: "small", models: ["hunyuan"], samples: 1 });
  assertEquals(run.failures, []);
  assertEquals(run.rows.map(({ clip, passes }) => [clip, passes]), [
    ["50 steps", 50],
    ["50 steps, VORTA", 50],
    ["50 steps, PAB", 50],
    ["50 steps, VORTA, PAB", 50],
    ["6 steps", 6],
    ["6 steps, VORTA", 6],
    ["6 steps, VORTA, PAB", 6],
  ]);
  const [full, , pab] = run.rows, few = run.rows.at(-1)!;
  assertEquals(full!.cached, undefined);
  assertEquals(pab!.cached, { "attention computed": 32, "attention kept": 9, "attention reused": 9 });
  assertEquals(few.cached, { "attention computed": 4, "attention kept": 1, "attention reused": 1 });
  assert(run.rows.every(({ denoise, decode }) => denoise > 0 && decode! > 0));
  const dir = await Deno.makeTempDir();
  try {
    const layers = [600, 100].map((passMs) => ({ attention: "", layerMs: 10, restMs: 1, passMs }));
    const rows = run.rows.map((row, i) => ({ ...row, denoise: [100, 50, 90, 45, 12, 6, 5][i]!, decode: 2 }));
    await Deno.writeTextFile(`${dir}/headline-dawn.json`, JSON.stringify({ ...run, rows, layers, source: "dawn" }));
    const measured = readMeasured([dir]);
    const found = targetRows(measured).filter(({ what }) => /^HunyuanVideo|^Waver/.test(what) && what.endsWith("Dawn"));
    assertEquals(found.map(({ target, measured, pass }) => [target, measured, pass]), [
      ["≥ 1.76x", "1.96x", true],
      ["≥ 14.41x", "14.57x", true],
      ["≥ 5.1x", "6.00x", true],
    ]);
    assert(report(measured).includes("| hunyuan | 6 steps, VORTA, PAB  |"));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("bench: layers whose tensors cannot be bound are timed in parts", async () => {
  // A tensor of all tokens has 1280 × 64 numbers.
  for (const [limit, parts] of [[327_680, 1], [327_676, 2]] as const) {
    const gpu = dryGpu({ limits: { maxStorageBufferBindingSize: limit } });
    const run = await measureHeadline(gpu, measuredOn(gpu), { size: "small", models: ["waver"], samples: 1 });
    assertEquals(run.failures, []);
    assertEquals(run.layersOf!.endsWith(", in 2 parts"), parts === 2);
    assertEquals(run.layers.length, 2);
    assertEquals(run.parts.filter(({ part }) => part.startsWith("attention of 1 heads")).length, parts === 2 ? 2 : 0);
    const { layerMs, restMs, passMs } = run.layers[0]!;
    assert(layerMs > 0 && restMs > 0 && passMs > 3 * layerMs);
  }
});
