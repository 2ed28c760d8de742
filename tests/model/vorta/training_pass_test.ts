import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { NonFiniteError } from "../../../model/training/non_finite_error.ts";
import { trainingPass, type TrainingPassInput, type TrainingPassResult } from "../../../model/vorta/training_pass.ts";
import { readTransformerConfig } from "../../../model/wan/config.ts";
import { WanTransformer3DModel } from "../../../model/wan/transformer.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { assertClose, plainOnly, randn, testVariants, type Variant, variants } from "../../gpu.ts";
import { MODEL } from "../../process.ts";

const CONFIG = `${MODEL}/transformer/config.json`;
const LATENTS = [1, 16, 2, 8, 8] as const, SIZE = 16 * 2 * 8 * 8, HEADS = 8;

/** The demo model's first blocks. */
async function model({ gpu }: Variant, layers: number): Promise<WanTransformer3DModel> {
  using source = await openCheckpoint(`${MODEL}/transformer`, "diffusion_pytorch_model");
  const config = await readTransformerConfig(CONFIG);
  return await WanTransformer3DModel.load(gpu, source, { ...config, layers });
}

function inputs({ gpu }: Variant, layers: number): TrainingPassInput {
  return {
    noisy: gpu.upload(randn(SIZE, 1), LATENTS),
    target: gpu.upload(randn(SIZE, 2), LATENTS),
    conditioning: { text: gpu.upload(randn(5 * 128, 3), [1, 5, 128]) },
    timestep: 700,
    scores: new Float32Array(layers * HEADS * 3).fill(1 / 3),
    settings: { tile: [1, 2, 2], window: [1, 1, 1], bucket: [2, 2, 2], rate: 0.5 },
    weights: { diffusion: 1, distillation: 20, hidden: 0.5 },
  };
}

testVariants(
  "a training pass: kept on the GPU or put aside, the numbers are the same and nothing is left",
  async (variant) => {
    const { gpu } = variant;
    const transformer = await model(variant, 3), input = inputs(variant, 3);
    await trainingPass(gpu, transformer, input); // The rotation table stays with the model.
    const before = gpu.memory.used;
    const kept = await trainingPass(gpu, transformer, input);
    const aside = await trainingPass(gpu, transformer, { ...input, keepBytes: 0 });
    assertEquals(aside, kept);
    assertEquals(gpu.memory.used, before);
    assert(kept.scoreGradients.every((g) => Number.isFinite(g) && g !== 0));
    assert(Object.values(kept.losses).every((loss) => loss > 0));
    transformer[Symbol.dispose]();
  },
);

testVariants("a training pass streams weights, and ends between blocks when it is told to", async (variant) => {
  const { gpu } = variant, input = inputs(variant, 3), config = await readTransformerConfig(CONFIG);
  const resident = await model(variant, 3), expected = await trainingPass(gpu, resident, input);
  using source = await openCheckpoint(`${MODEL}/transformer`, "diffusion_pytorch_model");
  using streamed = await WanTransformer3DModel.load(gpu, source, { ...config, layers: 3 }, { place: "stream" });
  // A second pass begins with the block that the first one ended with.
  for (let i = 0; i < 2; i++) assertEquals(await trainingPass(gpu, streamed, input), expected);
  const used = gpu.memory.used, signal = AbortSignal.abort(new Error("enough"));
  await assertRejects(() => trainingPass(gpu, streamed, { ...input, signal }), Error, "enough");
  assertEquals(gpu.memory.used, used);
  resident[Symbol.dispose]();
}, plainOnly);

testVariants("a training pass in f16 has the losses and gradients of f32", async (variant) => {
  const plain = (await variants())[0]!;
  const [found, expected] = await Promise.all([variant, plain].map(async (variant) => {
    const transformer = await model(variant, 3);
    const result = await trainingPass(variant.gpu, transformer, inputs(variant, 3));
    transformer[Symbol.dispose]();
    return result;
  })) as [TrainingPassResult, TrainingPassResult];
  for (const loss of ["diffusion", "distillation", "hidden"] as const) {
    assertClose([found.losses[loss]], [expected.losses[loss]], 1e-2, loss);
  }
  assertClose(found.scoreGradients, expected.scoreGradients, 1e-2);
}, ({ gpu }) => gpu.f16);

testVariants("a training pass takes no more GPU memory for more blocks, but their weights", async (variant) => {
  const { gpu } = variant;
  const peaks: number[] = [];
  for (const layers of [2, 6]) {
    const transformer = await model(variant, layers), input = inputs(variant, layers);
    gpu.trim();
    const used = gpu.memory.used;
    let most = 0;
    const tensor = gpu.tensor;
    gpu.tensor = (...args) => {
      const made = tensor.apply(gpu, args);
      most = Math.max(most, gpu.memory.used);
      return made;
    };
    await trainingPass(gpu, transformer, { ...input, keepBytes: 0, weights: { ...input.weights, hidden: 0 } });
    gpu.tensor = tensor;
    peaks.push(most - used);
    transformer[Symbol.dispose]();
  }
  // What grows is three weights a head and block, and their gradients, 256 bytes each.
  assert(peaks[0]! > 100_000 && peaks[1]! - peaks[0]! <= 4 * 6 * 256, `${peaks[0]} and ${peaks[1]} bytes`);
}, plainOnly);

testVariants("a number that is not finite is traced to its block", async (variant) => {
  const { gpu } = variant;
  const transformer = await model(variant, 3), input = inputs(variant, 3);
  const scores = input.scores.slice();
  scores[(1 * HEADS + 2) * 3] = Infinity;
  const blockOf = async (input: TrainingPassInput) => {
    const error = await trainingPass(gpu, transformer, input).catch((error) => error);
    assert(error instanceof NonFiniteError, String(error));
    return error.layer;
  };
  assertEquals(await blockOf({ ...input, scores }), 1);
  const used = gpu.memory.used;
  const noisy = gpu.upload(new Float32Array(SIZE).fill(NaN), LATENTS);
  assertEquals(await blockOf({ ...input, noisy }), undefined);
  gpu.release(noisy);
  assertEquals(gpu.memory.used, used);
  transformer[Symbol.dispose]();
}, plainOnly);
