import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { attention } from "../../../gpu/ops/attention.ts";
import { openSafetensors } from "../../../model/checkpoint/safetensors.ts";
import { embeddedModelDir } from "../../../model/embedded.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import { type SamplingObserver, type SamplingRuns, samplingRuns } from "../../../model/veda/sampling_states.ts";
import type { TileShapes } from "../../../model/veda/tile_shapes.ts";
import { TILES_FILE, trainTiles } from "../../../model/veda/tile_trainer.ts";
import { TILE_RECIPE, type TileTraining, type TileTrainingStep } from "../../../model/veda/training_options.ts";
import { BUDGETS, searchBudgets } from "../../../model/veda/budget_search.ts";
import { bestSingle, chooseBudgets, choosePlan, meanError } from "../../../model/veda/plan_choice.ts";
import { candidateShapes, searchTiles } from "../../../model/veda/tile_search.ts";
import { trainingFiles } from "../../../model/training/training_folder.ts";
import { MASS_TERMS } from "../../../model/veda/scorer.ts";
import { loadVeda } from "../../../model/veda/veda_file.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import { randn, variants } from "../../gpu.ts";
import { inTempDir, listFiles } from "../../process.ts";

const SHAPE = { layers: 2, heads: 3, headDim: 16 };
const GRID: Grid = [2, 5, 4], TOKENS = 40;
/** Denoising steps of the three runs; the second is guided. */
const STEPS = [3, 2, 4], PASSES = [1, 2, 1];

interface Counts {
  samples: number;
  steps: number;
}

/** Runs whose attention is random, the same every time; of every layer's heads each looks along an axis of its own. */
function someRuns(gpu: Gpu, counts: Counts = { samples: 0, steps: 0 }, alter = (_: Float32Array) => {}): SamplingRuns {
  const size = TOKENS * SHAPE.heads * SHAPE.headDim;
  const smooth = (seed: number) => {
    const noise = randn(size, seed, 0.3), waves = randn(3 * SHAPE.heads * SHAPE.headDim, 7);
    for (let token = 0; token < TOKENS; token++) {
      const place = [Math.floor(token / 20), Math.floor(token / 4) % 5, token % 4];
      for (let c = 0; c < SHAPE.heads * SHAPE.headDim; c++) {
        const axis = Math.floor(c / SHAPE.headDim);
        noise[token * SHAPE.heads * SHAPE.headDim + c]! += 1.5 *
          Math.cos(3 * place[axis]! * waves[c]! + waves[c + 48]!);
      }
    }
    return noise;
  };
  return {
    ...SHAPE,
    count: STEPS.length,
    steps: (run) => STEPS[run]!,
    passes: (run) => PASSES[run]!,
    async sample(run, { onState, onStep, signal }: SamplingObserver) {
      counts.samples++;
      for (let step = 0; step < STEPS[run]!; step++) {
        signal?.throwIfAborted();
        for (let pass = 0; pass < PASSES[run]!; pass++) {
          for (let layer = 0; layer < SHAPE.layers; layer++) {
            gpu.scope(() => {
              const [q, k, v] = [0, 1, 2].map((i) => {
                const x = smooth(((run * 10 + step) * 10 + pass) * 10 + 3 * layer + i);
                if (i === 0 && layer === 1 && step === 1) alter(x);
                return gpu.upload(x, [1, TOKENS, SHAPE.heads * SHAPE.headDim]);
              }) as [never, never, never];
              const lse = gpu.tensor([1, TOKENS, SHAPE.heads]);
              const y = attention(gpu, q, k, v, { heads: SHAPE.heads, lse });
              onState({ q, k, v, y, lse, layer, layout: { grid: GRID, kept: 0 }, step, pass });
            });
          }
        }
        await gpu.finish();
        counts.steps++;
        await onStep(step);
      }
    },
  };
}

function training(gpu: Gpu, folder: string, more: Partial<TileTraining> = {}): TileTraining {
  return {
    gpu,
    runs: someRuns(gpu),
    recipe: { ...TILE_RECIPE, lr: 0.02, average: 0.8 },
    tileTokens: 4,
    keep: 0.3,
    seed: 9,
    steps: 12,
    folder,
    checkpointEvery: 5,
    resume: false,
    ...more,
  };
}

/** Everything that a training leaves behind, but the time it took. */
async function results(folder: string) {
  const { checkpoint, result, log } = trainingFiles(folder, TILES_FILE);
  const lines = (await Deno.readTextFile(log)).trimEnd().split("\n").map((line) => JSON.parse(line));
  return {
    files: listFiles(folder),
    checkpoint: await Deno.readFile(checkpoint),
    tiles: await Deno.readFile(result),
    // How many steps the training was to have is another number where it was to end early.
    log: lines.map(({ seconds, steps, ...line }) => {
      assert(seconds >= 0 && steps >= line.step);
      return line as TileTrainingStep;
    }),
  };
}

/** A test on the kernels for software adapters; the device outlives it. */
function gpuTest(name: string, run: (gpu: Gpu, dir: string) => Promise<void>): void {
  Deno.test({
    name,
    sanitizeResources: false,
    sanitizeOps: false,
    fn: () => inTempDir(async (dir) => await run((await variants())[0]!.gpu, dir)),
  });
}

gpuTest("from a model whose blocks are streamed it learns the same as from one that is resident", async (gpu, dir) => {
  const clip = { negativePrompt: "", width: 64, height: 64, frames: 5, steps: 2, guidance: 4 };
  const clips = ["a red ring", "a blue square"].map((prompt, seed) => ({ ...clip, prompt, seed }));
  const learnt = [];
  for (const weights of ["resident", "stream"] as const) {
    const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu, weights });
    const runs = await samplingRuns(gpu, pipeline, clips);
    // Both passes, of the prompt and of the negative one, are learnt from.
    const folder = join(dir, weights);
    await trainTiles(training(gpu, folder, { runs, seed: 1, steps: 4, tileTokens: 8 }));
    const { log, tiles } = await results(folder);
    const shapes = candidateShapes([2, 4, 4], 8).slice(0, 2);
    learnt.push({ log, tiles, search: await searchTiles({ gpu, runs, shapes, keep: 0.5, looks: 1 }) });
    pipeline.close();
  }
  const [resident, streamed] = learnt;
  assertEquals(new Set(resident!.log.map(({ pass }) => pass)), new Set([0, 1]));
  assertEquals(streamed, resident);
});

gpuTest("it learns, and a training that is broken off and gone on with ends as one that was not", async (gpu, dir) => {
  // Made once and kept.
  gpu.placeholder;
  const held = gpu.memory.used;
  const whole = join(dir, "whole");
  assertEquals(await trainTiles(training(gpu, whole)), 12);
  const expected = await results(whole);
  assertEquals(expected.files, ["checkpoint.safetensors", "metrics.jsonl", "tiles.safetensors"]);
  assertEquals(expected.log.map(({ step }) => step), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  // Of the nine first steps each is of another state.
  assertEquals(new Set(expected.log.slice(0, 9).map(({ sample, denoising }) => `${sample} ${denoising}`)).size, 9);
  const loss = (from: number, to: number) => expected.log.slice(from, to).reduce((sum, { loss }) => sum + loss, 0) / 3;
  assert(loss(9, 12) < 0.8 * loss(0, 3), `from ${loss(0, 3)} to ${loss(9, 12)}`);
  for (const { recall, kept, oracle, losses } of expected.log) {
    assert(recall >= 0 && recall <= 1 && kept > 0 && kept < 1 && oracle > 0 && oracle < 1 && losses.length === 2);
  }

  // Ctrl-C, twice: in a clip's middle, and while it is sampled anew.
  const ended = join(dir, "ended");
  for (const [round, { at, step, steps }] of [{ at: 5, step: 5, steps: 5 }, { at: 1, step: 5, steps: 1 }].entries()) {
    const controller = new AbortController(), counts = { samples: 0, steps: 0 };
    const stop = () => counts.steps === at && controller.abort();
    const runs = someRuns(gpu, counts);
    const stopping: SamplingRuns = {
      ...runs,
      sample: (run, observer) => runs.sample(run, { ...observer, onStep: (s) => (stop(), observer.onStep(s)) }),
    };
    const more = { runs: stopping, resume: round > 0, signal: controller.signal };
    assertEquals(await trainTiles(training(gpu, ended, more)), step);
    assertEquals(counts.steps, steps);
    assertEquals(listFiles(ended), ["checkpoint.safetensors", "metrics.jsonl"]);
  }
  const replays: string[] = [];
  const more = { resume: true, onReplay: (done: number, total: number) => replays.push(`${done}/${total}`) };
  assertEquals(await trainTiles(training(gpu, ended, more)), 12);
  assertEquals(await results(ended), expected);
  assert(replays.length > 0 && replays.at(-1) === `${replays.length}/${replays.length}`, replays.join());

  // Killed: the log is ahead of the checkpoint.
  const killed = join(dir, "killed");
  await trainTiles(training(gpu, killed, { steps: 6 }));
  await Deno.writeTextFile(trainingFiles(killed, TILES_FILE).log, '{"step":7,"loss":1}\n{"st', { append: true });
  await trainTiles(training(gpu, killed, { resume: true }));
  assertEquals(await results(killed), expected);
  assertEquals(gpu.memory.used, held, "memory is left over");

  // A checkpoint and a result are both tiles.
  const { tileTokens, target, keep, scorer } = await loadVeda(trainingFiles(whole, TILES_FILE).result);
  assertEquals([tileTokens, target, keep, scorer!.terms], [4, "sum", 0.3, MASS_TERMS]);
  assertEquals((await loadVeda(trainingFiles(whole, TILES_FILE).checkpoint)).scorer, scorer);
});

gpuTest("heads of several shapes, the maximum and the sum as the target", async (gpu, dir) => {
  const plan: TileShapes = {
    shapes: [[1, 2, 2], [2, 1, 2]],
    choices: [Uint8Array.of(0, 1, 0), Uint8Array.of(1, 1, 1)],
  };
  for (const [target, loss] of [["max", "kl"], ["sum", "kl"], ["sum", "retained"]] as const) {
    const recipe = { ...TILE_RECIPE, lr: 0.02, target, loss }, steps: TileTrainingStep[] = [];
    const more = { shapes: plan, recipe, steps: 9, onStep: (step: TileTrainingStep) => steps.push(step) };
    const folder = join(dir, target + loss);
    await trainTiles(training(gpu, folder, more));
    if (loss === "retained") {
      assert(steps.every(({ loss }) => loss > -1 && loss < 1));
      await assertRejects(
        () => trainTiles(training(gpu, folder, { ...more, keep: 0.4, resume: true, steps: 12 })),
        TilereelError,
        "keep",
      );
    }
    assert(steps.every(({ loss, recall }) => Number.isFinite(loss) && recall <= 1));
    // The sum's own oracle keeps the most attention that can be kept.
    if (target === "sum") { for (const { kept, oracle } of steps) assert(kept <= oracle + 1e-6, `${kept} ${oracle}`); }
    const loaded = await loadVeda(trainingFiles(folder, TILES_FILE).result);
    const terms = target === "sum" ? MASS_TERMS : undefined;
    assertEquals([loaded.shapes, loaded.target, loaded.scorer!.terms], [plan, target, terms]);
  }
});

gpuTest("trainings that cannot go on", async (gpu, dir) => {
  const folder = join(dir, "run"), identity = { model: "abc" };
  await trainTiles(training(gpu, folder, { steps: 2, identity }));
  const refused = (more: Partial<TileTraining>, message: string) =>
    assertRejects(
      () => trainTiles(training(gpu, folder, { resume: true, identity, ...more })),
      TilereelError,
      message,
    );
  await refused(
    { recipe: { ...TILE_RECIPE, average: 0.8 } },
    "with different options: lr was 0.02 and is 0.001; give",
  );
  await refused({ tileTokens: 8, seed: 1 }, "seed was 9 and is 1, tile-tokens was 4 and is 8");
  await refused({ identity: { model: "xyz" } }, "model was abc and is xyz");
  await refused({ runs: { ...someRuns(gpu), steps: () => 5 } }, "digest of the sampling steps was ");
  await refused({ steps: 1 }, "checkpoint.safetensors is of step 2, but the training should end at step 1");
  await refused({ resume: false }, "already holds a training");
  await Deno.copyFile(trainingFiles(folder, TILES_FILE).result, trainingFiles(folder, TILES_FILE).checkpoint);
  await refused({}, "is not a checkpoint: the number of its step is missing");

  const stops = (name: string, more: Partial<TileTraining>, message: string) =>
    assertRejects(
      () => trainTiles(training(gpu, join(dir, name), { checkpointEvery: 1, ...more })),
      TilereelError,
      message,
    );
  const bad = someRuns(gpu, undefined, (x) => x[5] = NaN);
  await stops("nan", { runs: bad }, "training stopped at step 2: a number in layer 1 is not finite; train again");
  await stops("far", { recipe: { ...TILE_RECIPE, lr: 1e39 } }, "training stopped at step 1: a number in layer 0");
  // The checkpoint before stays.
  using source = await openSafetensors(trainingFiles(join(dir, "nan"), TILES_FILE).checkpoint);
  assertEquals(source.metadata.step, "1");
  assertEquals(listFiles(join(dir, "far")), ["metrics.jsonl"]);
});

gpuTest("a search finds the shape that lies along the axis a head looks along", async (gpu) => {
  const shapes = candidateShapes(GRID, 4);
  assertEquals(shapes.map(String), ["1,1,4", "1,2,2", "2,1,2", "2,2,1"]);
  const looks: number[] = [];
  const table = await searchTiles({
    gpu,
    runs: someRuns(gpu),
    shapes: [[1, 1, 4], [1, 5, 1], [2, 1, 2]],
    keep: 0.25,
    looks: 2,
    onLook: (done) => looks.push(done),
  });
  assertEquals(looks, [0, 1, 2, 3, 4, 5, 6]);
  for (const layer of table.votes) for (const head of layer) assertEquals(head.reduce((a, b) => a + b), 6);
  const plan = choosePlan(table, 3);
  const single = meanError(table, { shapes: [bestSingle(table)], choices: plan.choices.map((c) => c.map(() => 0)) });
  assert(meanError(table, plan) < single);
  const controller = new AbortController();
  controller.abort();
  await assertRejects(() =>
    searchTiles({ gpu, runs: someRuns(gpu), shapes, keep: 0.25, looks: 1, signal: controller.signal })
  );
});

gpuTest("budgets: more tiles for a head have less error, and the best budgets have least", async (gpu) => {
  const shapes: TileShapes = {
    shapes: [[1, 1, 4], [1, 5, 1]],
    choices: [Uint8Array.of(0, 1, 0), Uint8Array.of(1, 1, 1)],
  };
  const { errors } = await searchBudgets({ gpu, runs: someRuns(gpu), shapes, keep: 0.3, looks: 1 });
  assertEquals(errors.map((heads) => heads.map((byBudget) => byBudget.length)), [[5, 5, 5], [5, 5, 5]]);
  for (const byBudget of errors.flat()) {
    assert(byBudget.every((error, i) => i === 0 || error <= byBudget[i - 1]! + 1e-6), String(byBudget));
  }
  const budgets = chooseBudgets(errors, BUDGETS);
  const meanOf = (pick: (head: number) => number) =>
    errors.flat().reduce((sum, byBudget, head) => sum + byBudget[pick(head)]!, 0);
  const own = meanOf((head) => BUDGETS.indexOf(budgets[Math.floor(head / 3)]![head % 3]! as 1));
  assert(own <= meanOf(() => BUDGETS.indexOf(1)) + 1e-9);
});

Deno.test("budgets go where they take off most error, and are 1 on average at most", () => {
  const levels = [0.5, 1, 2];
  // The first head gains much by more, the second and third lose little by less.
  const errors = [[[8, 4, 1], [1, 0.9, 0.8]], [[1, 0.8, 0.7], [2, 1, 0.9]]].map((heads) =>
    heads.map((x) => Float64Array.from(x))
  );
  assertEquals(chooseBudgets(errors, levels), [Float32Array.of(2, 0.5), Float32Array.of(0.5, 1)]);
  // Where more helps nobody, all stay at the least.
  assertEquals(chooseBudgets([[[1, 1, 1], [2, 2, 2]]], levels), [Float32Array.of(0.5, 0.5)]);
});

Deno.test("plans by vote: ties by error, and no more shapes a layer than asked for", () => {
  const shapes: [Grid, Grid, Grid] = [[1, 1, 4], [1, 2, 2], [2, 2, 1]];
  const errors = [
    [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.45, 0.2, 0.5], [0.2, 0.9, 0.1]].map((x) => Float64Array.from(x)),
  ];
  const votes = [[[3, 0, 0], [0, 1, 2], [1, 1, 1], [1, 0, 2]].map((x) => Uint32Array.from(x))];
  const table = { shapes, errors, votes };
  assertEquals(choosePlan(table, 3), { shapes, choices: [Uint8Array.of(0, 2, 1, 2)] });
  // 2x2x1 is wanted by two, the others by one each: the first of them stays.
  assertEquals(choosePlan(table, 2), { shapes: [shapes[0], shapes[2]], choices: [Uint8Array.of(0, 1, 0, 1)] });
  assertEquals(choosePlan(table, 1), { shapes: [shapes[2]], choices: [Uint8Array.of(0, 0, 0, 0)] });
  assertEquals(bestSingle(table), [2, 2, 1]);
  assertEquals(meanError(table, choosePlan(table, 3)), (0.1 + 0.1 + 0.2 + 0.1) / 4);
});

Deno.test("a grid that no shape fits", () => {
  try {
    candidateShapes([1, 5, 7], 64);
    throw new Error("a shape fits");
  } catch (error) {
    assert(error instanceof TilereelError && error.message.includes("no tile of 64 tokens fits a grid of 1x5x7"));
  }
});
