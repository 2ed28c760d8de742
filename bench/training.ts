/**
 * `deno task bench:training`: the seconds of a sample of router training and of a state of tile training at real sizes,
 * with random weights. One block of each kind is trained, and then more of one kind: what each of these takes longer is
 * the time of a block. Nothing before the first block is trained, so that one takes less.
 *
 * @module
 */
import { formatBytes } from "../gpu/common/format_bytes.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { FullAttention } from "../model/attention/full.ts";
import type { SelfAttention } from "../model/attention/method.ts";
import { conditionedBy } from "../model/guidance.ts";
import { ScorerUpdates } from "../model/veda/scorer_updates.ts";
import { TileParameters } from "../model/veda/tile_parameters.ts";
import { defaultCapacity } from "../model/veda/tile_shapes.ts";
import { TILE_RECIPE } from "../model/veda/training_options.ts";
import { TRAINING_GUIDANCE } from "../model/vorta/recipe.ts";
import { trainingPass } from "../model/vorta/training_pass.ts";
import { choice, integer, memory, type OptionValues } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { combine } from "../gpu/ops/combine.ts";
import { randomSource } from "./full_size/made_source.ts";
import { benchOptions, handOver, onGpu } from "./program.ts";
import { normalTensor } from "./random.ts";
import { type ModelShape, SHAPES } from "./shapes.ts";
import { secondsText, tableOf } from "./table.ts";

const options = {
  ...benchOptions,
  shape: choice({
    choices: ["small", "1.3b", "14b", "hunyuan-small", "hunyuan"],
    help:
      "A small model of Wan's kind, Wan 1.3B at 832x480, Wan 14B at 1280x720 (routers at 77 frames, tiles at 81), or " +
      "HunyuanVideo at 1280x720 and 117 frames, and a small model of its kind.",
    default: "small on software adapters, else 1.3b",
  }),
  blocks: integer({ help: "The number of blocks of a kind that are trained after one was.", default: 3, min: 2 }),
  memory: memory({ value: "LIMIT", help: "Limit of GPU memory.", default: "none" }),
};

/** A training that was timed. */
interface Timed {
  readonly training: string;
  readonly tokens: number;
  /** Of a block of each kind. */
  readonly blockSeconds: readonly number[];
  readonly seconds: number;
  readonly peak: number;
}

/** Seconds of the faster of two runs, the first of which compiles kernels. */
async function best(gpu: Gpu, run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 2; i++) {
    const start = performance.now();
    await run();
    await gpu.finish();
    times.push((performance.now() - start) / 1000);
  }
  return Math.min(...times);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b);
}

/** What is timed, and frees what it holds when it is disposed of. */
interface Run extends Disposable {
  run(): Promise<unknown>;
}

/** Opens some blocks of each kind of a model, and noise for them. */
async function open(gpu: Gpu, { model: make, size, textTokens }: ModelShape, blocks: readonly number[]) {
  const model = make(randomSource, { blocks }), transformer = await model.loadTransformer(gpu);
  const latents = (which: number) => normalTensor(gpu, model.latentShape(size), 1, "f32", which);
  const [pass] = model.passes(TRAINING_GUIDANCE), text = normalTensor(gpu, [1, textTokens, model.textDim]);
  const pooled = model.pooledDim ? normalTensor(gpu, [1, model.pooledDim]) : undefined;
  const made = [latents(1), latents(2)] as const;
  const dispose = () => {
    for (const tensor of [...made, text, ...pooled ? [pooled] : []]) gpu.release(tensor);
    transformer[Symbol.dispose]();
    gpu.trim();
  };
  const conditioning = conditionedBy(pass!, { text, ...pooled && { pooled } });
  return { transformer, latents: made, conditioning, dispose };
}

/** A sample of a router: forward, reference and backward pass. */
async function router(gpu: Gpu, shape: ModelShape, blocks: readonly number[]): Promise<Run> {
  const { transformer, latents: [clip, noise], conditioning, dispose } = await open(gpu, shape, blocks);
  const scores = new Float32Array(sum(blocks) * shape.config.heads * 3).fill(1 / 3);
  const noisy = combine(gpu, [[0.4, clip], [0.6, noise]]), target = combine(gpu, [[1, noise], [-1, clip]]);
  const input = {
    ...{ noisy, target, conditioning, timestep: 600, scores, settings: shape.vorta, keepBytes: Infinity },
    weights: { diffusion: 1, distillation: 20, hidden: 0 },
  };
  return {
    run: () => trainingPass(gpu, transformer, input),
    [Symbol.dispose]: () => {
      for (const tensor of [noisy, target]) gpu.release(tensor);
      dispose();
    },
  };
}

/** A state of tiles: a forward pass with full attention, which teaches. */
async function tiles(gpu: Gpu, shape: ModelShape, blocks: readonly number[]): Promise<Run> {
  const { transformer, latents: [latents], conditioning, dispose } = await open(gpu, shape, blocks);
  const { shape: heads } = transformer, layout = transformer.layout(latents.shape, conditioning);
  const attention = new FullAttention(gpu, heads, layout), parameters = TileParameters.random(gpu, heads, 0);
  const tileTokens = defaultCapacity(shape.grid);
  const updates = new ScorerUpdates({ gpu, shape: heads, recipe: TILE_RECIPE, tileTokens, keep: 0.1 }, parameters);
  const selfAttention: SelfAttention = (q, k, v, layer) => {
    const lse = gpu.tensor([1, q.dim(1), heads.heads]), y = attention.attend(q, k, v, { lse });
    gpu.scope(() => updates.record({ q, k, v, y, lse, layer, layout, step: 0, pass: 0 }, 1));
    return y;
  };
  return {
    run: async () => {
      const passes = [{ latents, timesteps: [600], conditioning, selfAttention }];
      for (const velocity of await transformer.predict(passes)) gpu.release(velocity);
      await updates.figures();
    },
    [Symbol.dispose]: () => {
      for (const held of [updates, parameters, attention]) held[Symbol.dispose]();
      dispose();
    },
  };
}

async function run(values: OptionValues<typeof options>): Promise<void> {
  const { blocks = 3 } = values;
  await onGpu(values, async (gpu, on) => {
    const name = values.shape ?? (gpu.settings.description.software ? "small" : "1.3b"), of = SHAPES[name];
    // VORTA's tiles divide clips of 77 frames of Wan, and HunyuanVideo's own length.
    const size = { ...of.size, frames: of.size.frames === 81 ? 77 : of.size.frames };
    const shorter = { ...of, size, grid: [(size.frames - 1) / 4 + 1, of.grid[1], of.grid[2]] as const };
    const results: Timed[] = [];
    for (const [training, shape, make] of [["router", shorter, router], ["tiles, one pass", of, tiles]] as const) {
      const timed = async (counts: readonly number[]) => {
        using made = await make(gpu, shape, counts);
        return await best(gpu, () => made.run());
      };
      const one = await timed(of.blocks.map(() => 1)), blockSeconds: number[] = [];
      for (const kind of of.blocks.keys()) {
        const more = await timed(of.blocks.map((_, each) => each === kind ? blocks : 1));
        blockSeconds.push((more - one) / (blocks - 1));
      }
      results.push({
        training,
        tokens: shape.grid.reduce((a, b) => a * b),
        blockSeconds,
        seconds: one + sum(of.blocks.map((count, kind) => (count - 1) * blockSeconds[kind]!)),
        peak: gpu.memory.peak,
      });
    }
    handOver(
      values,
      { ...on, shape: name, blocks, results },
      tableOf(results, {
        "training": ({ training }) => training,
        "tokens": ({ tokens }) => String(tokens),
        "a block": ({ blockSeconds }) => blockSeconds.map(secondsText).join(", "),
        "a sample or state": ({ seconds }) => secondsText(seconds),
        "peak until then": ({ peak }) => formatBytes(peak),
      }),
    );
  });
}

if (import.meta.main) await runAsProgram({ name: "deno task bench:training", options, run });
