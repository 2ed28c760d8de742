/** Step caches decide as their formulas say: sequences made by hand, with the same formulas in float64 beside them. */
import type { Gpu } from "../../../gpu/gpu.ts";
import { meanDistance } from "../../../gpu/ops/mean_distance.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { easyCache } from "../../../model/cache/easy.ts";
import { firstBlockCache } from "../../../model/cache/first_block.ts";
import { pyramidAttentionBroadcast } from "../../../model/cache/pab.ts";
import type { CacheTask, StepCache } from "../../../model/cache/step_cache.ts";
import { teaCache } from "../../../model/cache/tea.ts";
import type { HeadShape } from "../../../model/attention/layout.ts";
import type { Family } from "../../../model/family.ts";
import { WAN } from "../../../model/wan/family.ts";
import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { assertClose, randn, testOnGpu } from "../../gpu.ts";

const STEPS = 20, SIZE = 77;
const SHAPE: HeadShape = { layers: 3, heads: 1, headDim: 32 };

/** A sequence that changes by steps of very different sizes. */
function sequence(seed: number): Float32Array[] {
  const sizes = randn(STEPS, seed + 100).map((size) => 0.06 * size ** 2);
  const all = [randn(SIZE, seed)];
  for (let i = 1; i < STEPS; i++) {
    const change = randn(SIZE, seed + i);
    all.push(all[i - 1]!.map((value, at) => value + sizes[i]! * change[at]!));
  }
  return all;
}

const mean = (numbers: Float32Array) => numbers.reduce((sum, x) => sum + Math.abs(x), 0) / numbers.length;
const minus = (a: Float32Array, b: Float32Array) => a.map((x, i) => x - b[i]!);

function prepare(gpu: Gpu, cache: StepCache, shape = SHAPE, family: Family = WAN) {
  const sigmas = Array.from({ length: STEPS + 1 }, (_, step) => 1 - step / STEPS);
  const task: CacheTask = {
    ...{ gpu, model: { family, shape }, passes: ["prompt"], sigmas },
    timesteps: sigmas.slice(0, -1).map((sigma) => 1000 * sigma),
    gridTokens: 1,
  };
  return cache.prepare(task);
}

/** Runs a pass whose blocks turn x into y, and returns what it gives, and from which block on a cache stood in. */
async function runBlocks(
  gpu: Gpu,
  hooks: ReturnType<Awaited<ReturnType<typeof prepare>>["at"]>,
  states: Float32Array[],
  e?: Float32Array,
) {
  for (const [layer, numbers] of states.entries()) {
    let kept = false;
    const x = gpu.upload(numbers, [1, 1, SIZE]), modulated = e && gpu.upload(e, [1, SIZE]);
    const result = await hooks.remaining!({
      ...{ layer, x },
      modulatedInput: () => Promise.resolve(modulated),
      keep: () => {
        kept = true;
        return x;
      },
    });
    if (modulated) gpu.release(modulated);
    const output = result && await gpu.read(result);
    if (result) gpu.release(result);
    if (!kept) gpu.release(x);
    if (output) return { from: layer, output };
  }
  return { from: states.length, output: states.at(-1)! };
}

testOnGpu("step caches: the distance of tensors is that of float64, over leading numbers only", async (gpu) => {
  for (const size of [1, 63, 2048, 5001]) {
    const a = randn(size, 1), b = randn(size, 2), [ta, tb] = [a, b].map((x) => gpu.upload(x, [size]));
    for (const part of new Set([size, Math.ceil(size / 3)])) {
      const { difference, magnitude } = await meanDistance(gpu, ta!, tb!, part);
      assertAlmostEquals(difference, mean(minus(a, b).subarray(0, part)), 1e-6);
      assertAlmostEquals(magnitude, mean(b.subarray(0, part)), 1e-6);
    }
    for (const tensor of [ta!, tb!]) gpu.release(tensor);
  }
});

testOnGpu("EasyCache skips the passes that its formula names, with numbers given or the family's", async (gpu) => {
  const numbers = { threshold: 0.02, first: 4 };
  await checkEasy(gpu, easyCache(numbers), numbers);
  await checkEasy(gpu, easyCache(), numbers, { ...WAN, cacheNumbers: { easy: numbers } });
});

async function checkEasy(gpu: Gpu, cacheOf: StepCache, numbers: { threshold: number; first: number }, family?: Family) {
  const xs = sequence(3), ys = sequence(50), { threshold, first } = numbers;
  using cache = await prepare(gpu, cacheOf, SHAPE, family);
  const skipped: number[] = [], expected: number[] = [];
  let k: number | undefined, sum = 0, computed: number | undefined;
  for (let step = 0; step < STEPS; step++) {
    let skips = false;
    if (step >= first && step < STEPS - 1) {
      sum += k! * mean(minus(xs[step]!, xs[step - 1]!)) / mean(ys[computed!]!);
      skips = sum < threshold;
    }
    const hooks = cache.at(step, "prompt"), x = gpu.upload(xs[step]!, [SIZE]);
    const output = await hooks.velocity!(x);
    if (output) {
      skipped.push(step);
      const c = computed!, made = xs[step]!.map((value, i) => value + ys[c]![i]! - xs[c]![i]!);
      assertClose(await gpu.read(output), made, 1e-6);
      gpu.release(output);
    } else {
      const y: Tensor = gpu.upload(ys[step]!, [SIZE]);
      hooks.predicted!(x, y);
      gpu.release(y);
    }
    gpu.release(x);
    if (skips) expected.push(step);
    else {
      sum = 0;
      if (computed !== undefined) k = mean(minus(ys[step]!, ys[computed]!)) / mean(minus(xs[step]!, xs[computed]!));
      computed = step;
    }
  }
  assertEquals(skipped, expected);
  assertEquals([skipped.length > 3, skipped.length < STEPS - first - 3], [true, true], `${skipped}`);
}

testOnGpu("TeaCache skips the blocks that its polynomial names", async (gpu) => {
  const es = sequence(7), xs = sequence(60), ys = sequence(90);
  const coefficients = [3, -2, 0.5, 1.5, 0.01],
    threshold = 0.2,
    p = (r: number) => 3 * r ** 4 - 2 * r ** 3 + 0.5 * r ** 2 + 1.5 * r + 0.01;
  using cache = await prepare(gpu, teaCache({ coefficients, threshold }));
  const skipped: number[] = [], expected: number[] = [];
  let sum = 0, added = new Float32Array();
  for (let step = 0; step < STEPS; step++) {
    sum += step === 0 ? 0 : p(mean(minus(es[step]!, es[step - 1]!)) / mean(es[step - 1]!));
    const skips = step > 0 && step < STEPS - 1 && sum < threshold;
    const states = [xs[step]!, randn(SIZE, 1), randn(SIZE, 2), ys[step]!];
    const { from, output } = await runBlocks(gpu, cache.at(step, "prompt"), states, es[step]);
    if (from === 0) skipped.push(step);
    if (skips) {
      expected.push(step);
      assertClose(output, xs[step]!.map((x, i) => x + added[i]!), 1e-6);
    } else [sum, added] = [0, minus(ys[step]!, xs[step]!)];
  }
  assertEquals(skipped, expected);
  assertEquals([skipped.length > 3, skipped.length < STEPS - 5], [true, true], `${skipped}`);
});

testOnGpu(
  "TeaCache has the authors' numbers for the models that they fitted, and asks for them otherwise",
  async (gpu) => {
    for (const [layers, heads] of [[30, 12], [40, 40]] as const) {
      (await prepare(gpu, teaCache(), { layers, heads, headDim: 128 }))[Symbol.dispose]();
    }
    await assertRejects(
      () => prepare(gpu, teaCache()),
      Error,
      "TeaCache needs coefficients for this model of 3 layers",
    );
  },
);

testOnGpu("FirstBlockCache compares with the last step that it computed", async (gpu) => {
  const xs = sequence(11), heads = sequence(21), ys = sequence(31), threshold = 0.08;
  using cache = await prepare(gpu, firstBlockCache({ threshold }));
  const skipped: number[] = [], expected: number[] = [];
  let before: Float32Array | undefined, added = new Float32Array();
  for (let step = 0; step < STEPS; step++) {
    // The first block's output, as the cache gets it: rounded.
    const output1 = xs[step]!.map((x, i) => x + heads[step]![i]!), residual = minus(output1, xs[step]!);
    const skips = before !== undefined && mean(minus(residual, before)) <= threshold * mean(before);
    const { from, output } = await runBlocks(gpu, cache.at(step, "prompt"), [
      xs[step]!,
      output1,
      randn(SIZE, 5),
      ys[step]!,
    ]);
    if (from === 1) skipped.push(step);
    if (skips) {
      expected.push(step);
      assertClose(output, output1.map((x, i) => x + added[i]!), 1e-6);
    } else [before, added] = [residual, minus(ys[step]!, output1)];
  }
  assertEquals(skipped, expected);
  assertEquals([skipped.length > 3, skipped.length < STEPS - 4], [true, true], `${skipped}`);
});

testOnGpu("PAB computes attention at every n-th step, and outside its range of timesteps", async (gpu) => {
  using cache = await prepare(gpu, pyramidAttentionBroadcast({ self: 3, cross: 1, between: [200, 900] }));
  const computed: Record<string, number[]> = { self: [], cross: [] };
  for (let step = 0; step < STEPS; step++) {
    for (const module of ["self", "cross"] as const) {
      gpu.scope(() => {
        cache.at(step, "prompt").attention!(0, module, () => {
          computed[module]!.push(step);
          return gpu.upload(randn(SIZE, step), [1, 1, SIZE]);
        });
      });
    }
  }
  // Timesteps are 1000, 950, 900 (step 2), 850 … 250 (15), 200 (16).
  const expected = Array.from({ length: STEPS }, (_, step) => step).filter((step) =>
    step <= 2 || step >= 16 || step % 3 === 0
  );
  assertEquals(computed.self, expected);
  assertEquals(computed.cross!.length, STEPS);
});

Deno.test("PAB counts the memory of what it keeps", () => {
  const wan = { ...SHAPE, crossAttention: true };
  assertEquals(pyramidAttentionBroadcast().tensors(wan, false), 6);
  assertEquals(pyramidAttentionBroadcast().tensors(SHAPE, true), 1.5);
  assertEquals(pyramidAttentionBroadcast({ self: 1 }).tensors(wan, true), 1.5);
});
