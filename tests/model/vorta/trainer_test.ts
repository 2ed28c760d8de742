import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { randn as torchRandn } from "../../../model/noise.ts";
import type { TrainingSet } from "../../../model/training/data/training_set.ts";
import { DensityControl } from "../../../model/vorta/density_control.ts";
import { AUTHORS_RECIPE, lossWeights, noiseSeed } from "../../../model/vorta/recipe.ts";
import type { RoutedModel, RoutedPassInput } from "../../../model/vorta/routed_model.ts";
import { Router } from "../../../model/vorta/router.ts";
import { loadRouter } from "../../../model/vorta/router_file.ts";
import { PAPER_SETTINGS, type VortaSettings } from "../../../model/vorta/settings.ts";
import { NonFiniteError } from "../../../model/training/non_finite_error.ts";
import { trainingFiles } from "../../../model/training/training_folder.ts";
import { ROUTER_FILE, trainRouter } from "../../../model/vorta/trainer.ts";
import type { RouterTraining } from "../../../model/vorta/training_options.ts";
import type { RouterTrainingStep } from "../../../model/vorta/training_figures.ts";
import { randn } from "../../gpu.ts";
import { inTempDir, listFiles } from "../../process.ts";

const SHAPE = { layers: 3, heads: 2, dim: 6 };
const LATENTS = [1, 2, 3, 4, 4];
const SETTINGS: VortaSettings = { tile: [1, 2, 2], window: [3, 3, 3], bucket: [1, 2, 2], rate: 0.5 };

const data: TrainingSet = {
  size: 5,
  digest: "of five",
  sample: (index) =>
    Promise.resolve({
      latents: randn(96, index),
      shape: LATENTS,
      conditioning: { text: { data: randn(8, 50 + index), shape: [1, 2, 4] }, textLength: 2 },
    }),
};

const timeEmbedding = (timestep: number) => randn(SHAPE.dim, timestep, 2);

/** Losses that any function of scores and inputs could be: Σ (score − a)² with targets from noise, sample and text. */
function lossOf(input: RoutedPassInput, scores: ArrayLike<number>): { diffusion: number; distillation: number } {
  const loss = { diffusion: 0, distillation: 0 };
  for (let i = 0; i < scores.length; i++) {
    loss.diffusion += (scores[i]! - 3 * input.noisy.data[i]! * input.target.data[i + 1]!) ** 2;
    loss.distillation += (scores[i]! - input.conditioning.text.data[i % 8]!) ** 2;
  }
  return loss;
}

const DENSITIES = { full: 1, coreset: 0.3, sliding: 0.2 };

const model: RoutedModel = {
  ...SHAPE,
  timeEmbedding: (timestep) => Promise.resolve(timeEmbedding(timestep)),
  pass: (input) => {
    const { scores, weights } = input;
    const scoreGradients = scores.map((score, i) =>
      2 * weights.diffusion * (score - 3 * input.noisy.data[i]! * input.target.data[i + 1]!) +
      2 * weights.distillation * (score - input.conditioning.text.data[i % 8]!)
    );
    return Promise.resolve({ losses: { ...lossOf(input, scores), hidden: 0 }, scoreGradients, densities: DENSITIES });
  },
};

function training(folder: string, more: Partial<RouterTraining> = {}): RouterTraining {
  return {
    model,
    data,
    recipe: AUTHORS_RECIPE,
    settings: SETTINGS,
    seed: 9,
    steps: 10,
    tau: 0.3,
    folder,
    checkpointEvery: 3,
    resume: false,
    ...more,
  };
}

/** Everything that a training leaves behind, but the time it took. */
async function results(folder: string) {
  const { checkpoint, result, log } = trainingFiles(folder, ROUTER_FILE);
  const lines = (await Deno.readTextFile(log)).trimEnd().split("\n").map((line) => JSON.parse(line));
  return {
    files: listFiles(folder),
    checkpoint: await Deno.readFile(checkpoint),
    router: await Deno.readFile(result),
    // How many steps the training was to have is another number where it was to end early.
    log: lines.map(({ seconds, steps, ...line }) => {
      assert(seconds >= 0 && steps >= line.step);
      return line;
    }),
  };
}

Deno.test("a step against the loss's finite differences and AdamW in float64", () =>
  inTempDir(async (dir) => {
    const folder = join(dir, "run");
    const inputs: RoutedPassInput[] = [];
    const steps: RouterTrainingStep[] = [];
    const recipe = { ...AUTHORS_RECIPE, accumulate: 3, clip: 0.5 };
    const seen = { ...model, pass: (input: RoutedPassInput) => (inputs.push(input), model.pass(input)) };
    const { router } = await trainRouter(
      training(folder, { model: seen, recipe, steps: 1, onStep: (s) => steps.push(s) }),
    );
    const [step] = steps as [RouterTrainingStep];

    // What each pass was given.
    assertEquals(inputs.length, 3);
    for (const [batch, { noisy, target, conditioning, timestep, settings, weights }] of inputs.entries()) {
      const { latents, conditioning: given } = await data.sample(step.samples[batch]!);
      const sigma = step.timesteps[batch]! / 1000, noise = torchRandn(96, noiseSeed(9, 1, batch));
      assertEquals([timestep, settings], [step.timesteps[batch]!, SETTINGS]);
      assertEquals([noisy.shape, target.shape], [LATENTS, LATENTS]);
      assertEquals(conditioning, given);
      assertEquals(weights, lossWeights(recipe.weights, timestep, 5));
      for (let i = 0; i < 96; i++) {
        assert(Math.abs(noisy.data[i]! - ((1 - sigma) * latents[i]! + sigma * noise[i]!)) < 1e-6);
        assert(Math.abs(target.data[i]! - (noise[i]! - latents[i]!)) < 1e-6);
      }
    }

    // The whole loss of the step, in float64 and apart from the trainer, as a function of all parameters in a row.
    const start = [...Router.random(SHAPE, 9).parameters().values()].flatMap(({ data }) => [...data]);
    const loss = (parameters: readonly number[]) => {
      let sum = 0;
      for (const input of inputs) {
        const x = [...timeEmbedding(input.timestep)].map((v) => v / (1 + Math.exp(-v)));
        const scores: number[] = [];
        for (let layer = 0; layer < 3; layer++) {
          const at = layer * 42;
          for (let head = 0; head < 2; head++) {
            const powers = [0, 1, 2].map((i) => {
              const row = head * 3 + i;
              return Math.exp(x.reduce((s, v, c) => s + v * parameters[at + row * 6 + c]!, parameters[at + 36 + row]!));
            });
            const all = powers[0]! + powers[1]! + powers[2]!;
            scores.push(...powers.map((power) => power / all));
          }
        }
        const { diffusion, distillation } = lossOf(input, scores);
        let regular = 0;
        for (let i = 0; i < scores.length; i += 3) regular += scores[i]! ** 2 / 2;
        const weights = lossWeights(recipe.weights, input.timestep, 5);
        sum += (weights.diffusion * diffusion + 0.02 * regular + weights.distillation * distillation) / 3;
      }
      return sum;
    };
    const near = (actual: number, expected: number, bound: number, what: string) =>
      assert(Math.abs(actual - expected) <= bound * Math.abs(expected), `${what} is ${actual}, not ${expected}`);
    near(step.loss, loss(start), 1e-6, "loss");
    const gradient = start.map((_, i) => {
      const [up, down] = [1e-5, -1e-5].map((by) => loss(start.map((v, j) => i === j ? v + by : v)));
      return (up! - down!) / 2e-5;
    });
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    near(step.gradNorm, norm, 1e-5, "norm");
    // AdamW's first step goes by lr against the gradient's sign, wherever that is not tiny.
    const after = [...router.parameters().values()].flatMap(({ data }) => [...data]);
    for (const [i, g] of gradient.entries()) {
      const clipped = g * Math.min(1, 0.5 / norm);
      const expected = start[i]! * (1 - 1e-2 * 0.01) - 1e-2 * clipped / (Math.abs(clipped) + 1e-8);
      assert(Math.abs(after[i]! - expected) < 1e-6, `parameter ${i} is ${after[i]}, not ${expected}`);
    }
    assertEquals([step.step, step.lr], [1, 1e-2]);
    near(step.shares.full + step.shares.coreset + step.shares.sliding, 1, 1e-12, "shares");
  }));

Deno.test("training that is broken off and gone on with ends as one that was not, bit for bit", () =>
  inTempDir(async (dir) => {
    const whole = join(dir, "whole");
    await trainRouter(training(whole));
    const expected = await results(whole);
    assertEquals(expected.files, ["checkpoint.safetensors", "metrics.jsonl", "router.safetensors"]);
    assertEquals(expected.log.map(({ step }) => step), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // It learns.
    const loss = ({ losses: { distillation } }: RouterTrainingStep) => distillation;
    assert(loss(expected.log[9] as RouterTrainingStep) < 0.999 * loss(expected.log[0] as RouterTrainingStep));

    // Ctrl-C in the middle of a step, twice.
    const ended = join(dir, "ended");
    for (const [round, { passes, step }] of [{ passes: 6, step: 1 }, { passes: 15, step: 4 }].entries()) {
      const controller = new AbortController();
      let count = 0;
      const stopping: RoutedModel = {
        ...model,
        pass: (input) => (++count === passes && controller.abort(), model.pass(input)),
      };
      const at = training(ended, { model: stopping, resume: round > 0, signal: controller.signal });
      // The step that was under way is dropped, and done again first the next time.
      assertEquals((await trainRouter(at)).step, step);
      assertEquals(listFiles(ended), ["checkpoint.safetensors", "metrics.jsonl"]);
    }
    assertEquals((await trainRouter(training(ended, { resume: true }))).step, 10);
    assertEquals(await results(ended), expected);

    // A failure from outside: what was done until then is kept.
    const failed = join(dir, "failed");
    let passes = 0;
    const failing: RoutedModel = {
      ...model,
      pass: (input) => ++passes === 19 ? Promise.reject(new TilereelError("the GPU was lost")) : model.pass(input),
    };
    await assertRejects(() => trainRouter(training(failed, { model: failing })), TilereelError, "the GPU was lost");
    using source = await openSafetensors(trainingFiles(failed, ROUTER_FILE).checkpoint);
    assertEquals(source.metadata.step, "4");
    await trainRouter(training(failed, { resume: true }));
    assertEquals(await results(failed), expected);

    // Killed: the log is ahead of the checkpoint, its last line half written.
    const killed = join(dir, "killed");
    await trainRouter(training(killed, { steps: 6 }));
    const { log, result } = trainingFiles(killed, ROUTER_FILE);
    await Deno.writeTextFile(log, '{"step":7,"loss":1}\n{"step":8,"lo', { append: true });
    await Deno.remove(result);
    await trainRouter(training(killed, { resume: true, checkpointEvery: 100 }));
    assertEquals(await results(killed), expected);

    // Finished already, and then gone on with for longer.
    const before = await results(killed);
    await trainRouter(training(killed, { resume: true }));
    assertEquals(await results(killed), before);
    await trainRouter(training(killed, { resume: true, steps: 12 }));
    const longer = await results(killed);
    assertEquals(longer.log.slice(0, 10), expected.log);
    assertEquals(longer.log.length, 12);
  }));

Deno.test("the final router has its settings, and another seed gives another", () =>
  inTempDir(async (dir) => {
    const { router } = await trainRouter(training(join(dir, "a"), { steps: 2 }));
    const { router: other } = await trainRouter(training(join(dir, "b"), { steps: 2, seed: 10 }));
    const expected = { router, settings: SETTINGS, madeFor: undefined };
    assertEquals(await loadRouter(trainingFiles(join(dir, "a"), ROUTER_FILE).result), expected);
    assert(router.layers[0]!.bias[0] !== other.layers[0]!.bias[0]);
    // A checkpoint is a router file, too.
    assertEquals(await loadRouter(trainingFiles(join(dir, "a"), ROUTER_FILE).checkpoint), expected);
  }));

Deno.test("a checkpoint of other options is refused, saying which", () =>
  inTempDir(async (dir) => {
    const folder = join(dir, "run");
    const identity = { model: "abc" };
    await trainRouter(training(folder, { steps: 2, identity }));
    const refused = async (more: Partial<RouterTraining>, message: string) =>
      await assertRejects(
        () => trainRouter(training(folder, { resume: true, identity, ...more })),
        TilereelError,
        message,
      );
    const { weights } = AUTHORS_RECIPE;
    await refused({ recipe: { ...AUTHORS_RECIPE, lr: 0.02 } }, "with different options: lr was 0.01 and is 0.02; give");
    await refused(
      { recipe: { ...AUTHORS_RECIPE, accumulate: 2, weights: { ...weights, distillation: 5 } }, seed: 1 },
      "seed was 9 and is 1, accumulate was 4 and is 2, distillation-weight was 20 and is 5",
    );
    await refused({ settings: PAPER_SETTINGS }, "tile was 1x2x2 and is 5x9x8, bucket was 1x2x2 and is 2x3x2");
    await refused({ identity: { model: "xyz" } }, "model was abc and is xyz");
    await refused({ identity: {} }, "model was abc and is not given");
    await refused({ data: { ...data, size: 4 } }, "samples was 5 and is 4");
    const others: TrainingSet = { ...data, sample: (index) => data.sample(index + 1) };
    await refused({ data: others }, "data digest was ");
    await refused({ steps: 1 }, "checkpoint.safetensors is of step 2, but the training should end at step 1");
    await refused({ model: { ...model, layers: 4 } }, "blocks was 3 with 2 heads on 6 channels and is 4 with");
    await assertRejects(
      () => trainRouter(training(folder)),
      TilereelError,
      "run already holds a training; resume it, or choose another folder",
    );
    await assertRejects(
      () => trainRouter(training(join(dir, "none"), { resume: true })),
      TilereelError,
      "checkpoint.safetensors does not exist, so there is no training to resume",
    );
    // Not refused: what leaves the result as it is.
    await trainRouter(training(folder, { steps: 2, identity, resume: true, tau: 0.5, checkpointEvery: 1 }));
    // A router is not a checkpoint.
    await Deno.copyFile(trainingFiles(folder, ROUTER_FILE).result, trainingFiles(folder, ROUTER_FILE).checkpoint);
    await refused({}, "is not a checkpoint: the number of its step is missing");
  }));

Deno.test("numbers that are not finite stop training with the step and the block", () =>
  inTempDir(async (dir) => {
    let folder = 0;
    const stops = async (more: Partial<RouterTraining>, message: string) =>
      await assertRejects(
        () => trainRouter(training(join(dir, String(++folder)), { checkpointEvery: 2, ...more })),
        TilereelError,
        message,
      );
    const at = (pass: number, then: RoutedModel["pass"]): RoutedModel => {
      let count = 0;
      return { ...model, pass: (input) => ++count === pass ? then(input) : model.pass(input) };
    };
    await stops(
      { model: at(14, () => Promise.reject(new NonFiniteError(2))) },
      "training stopped at step 4: a number in layer 2 is not finite; train again with a lower learning rate",
    );
    await stops({ model: at(1, () => Promise.reject(new NonFiniteError(undefined))) }, "step 1: a number outside the");
    // Gradients that only overflow on the way to the router's weights.
    const large: RoutedModel["pass"] = async (input) => {
      const { scoreGradients, ...rest } = await model.pass(input);
      return { ...rest, scoreGradients: scoreGradients.map((g, i) => i < 12 ? g : 1e38 * (i % 3 - 1)) };
    };
    const far: RoutedModel = {
      ...model,
      timeEmbedding: () => Promise.resolve(new Float32Array(6).fill(30)),
      pass: large,
    };
    await stops(
      { model: far, recipe: { ...AUTHORS_RECIPE, accumulate: 1 } },
      "step 1: a number in layer 2 is not finite",
    );
    await stops({ recipe: { ...AUTHORS_RECIPE, lr: 1e39 } }, "step 1: a number in layer 0 is not finite");
    // The checkpoint before it stays good.
    const { router } = await loadRouter(trainingFiles(join(dir, "1"), ROUTER_FILE).checkpoint);
    assert(router.layers.every(({ weight }) => weight.every(Number.isFinite)));
    using source = await openSafetensors(trainingFiles(join(dir, "1"), ROUTER_FILE).checkpoint);
    assertEquals(source.metadata.step, "2");
    assertEquals(listFiles(join(dir, "1")), ["checkpoint.safetensors", "metrics.jsonl"]);
  }));

Deno.test("a density is aimed at; warm-up and averages; bit for bit the same when it is gone on with", () =>
  inTempDir(async (dir) => {
    const recipe = { ...AUTHORS_RECIPE, density: 0.35, warmup: 4, beta2: 0.95, average: 0.5 };
    const whole = join(dir, "whole"), ended = join(dir, "ended");
    await trainRouter(training(whole, { recipe }));
    await trainRouter(training(ended, { recipe, steps: 5 }));
    await trainRouter(training(ended, { recipe, resume: true }));
    const expected = await results(whole), log = expected.log as RouterTrainingStep[];
    assertEquals(await results(ended), expected);
    assertEquals(log.slice(0, 5).map(({ lr }) => lr), [0.0025, 0.005, 0.0075, 0.01, 0.01]);
    // The weight answers the density of the step before, and all errors so far.
    let sum = 0, weight = 0.02;
    for (const { density, weights } of log) {
      assertAlmostEquals(weights.regularization, weight, 1e-6);
      sum += density - 0.35;
      weight = 0.02 * Math.exp(4 * (density - 0.35) + 0.4 * sum);
    }
    // The result is the average.
    const { checkpoint, result } = trainingFiles(whole, ROUTER_FILE);
    using stored = await openSafetensors(checkpoint);
    const { router } = await loadRouter(result), [name, { data }] = [...router.parameters()][0]!;
    assertEquals(await readFloat32(stored, `average.${name}`), data);
    assert((await readFloat32(stored, name)).some((x, i) => x !== data[i]));
  }));

Deno.test("settings may be those of each grid; then the router's file has none", () =>
  inTempDir(async (dir) => {
    const asked: unknown[] = [], settings = () => SETTINGS;
    const seen = { ...model, pass: (input: RoutedPassInput) => (asked.push(input.settings), model.pass(input)) };
    await trainRouter(training(dir, { model: seen, settings, steps: 1 }));
    assertEquals(asked, [settings, settings, settings, settings]);
    const { checkpoint, result } = trainingFiles(dir, ROUTER_FILE);
    for (const file of [checkpoint, result]) assertEquals((await loadRouter(file)).settings, undefined);
  }));

Deno.test("a search for a density raises the weight while too much is kept, and lowers it again", () => {
  const control = new DensityControl(0.5, 0.02), weights: number[] = [];
  // A router that answers late: its density follows the weight.
  let density = 0.9;
  for (let step = 0; step < 100; step++) {
    weights.push(control.weight);
    density += 0.1 * (0.2 + 0.7 * Math.exp(-control.weight / 0.05) - density);
    control.observe(density);
  }
  assert(Math.abs(density - 0.5) < 0.02, `${density}`);
  assert(Math.max(...weights) > 0.04 && weights.at(-1)! < Math.max(...weights));
});

Deno.test("options are checked, and have defaults", () =>
  inTempDir(async (dir) => {
    const refused = (more: object, message: string) =>
      assertRejects(() => trainRouter({ ...training(join(dir, "a")), ...more }), TilereelError, message);
    await refused({ steps: 0 }, "trainRouter: steps is 0, but a whole number of at least 1 was expected");
    await refused({ folder: undefined }, "trainRouter needs the option folder: a path");
    await refused({ step: 2 }, 'trainRouter has no option "step": did you mean steps?');
    await refused({ recipe: { ...AUTHORS_RECIPE, lr: NaN } }, "trainRouter: recipe is an object, but a recipe with");
    assertEquals(listFiles(dir), []);
    const { recipe: _, seed: __, tau: ___, checkpointEvery: ____, resume: _____, ...rest } = training(join(dir, "b"));
    await trainRouter({ ...rest, steps: 1 });
    await trainRouter(training(join(dir, "c"), { seed: 0, steps: 1 }));
    assertEquals((await results(join(dir, "b"))).router, (await results(join(dir, "c"))).router);
  }));
