import type { Gpu } from "../../../gpu/gpu.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { FullAttention } from "../../../model/attention/full.ts";
import type { Conditioning, TransformerOptions, VideoTransformer } from "../../../model/family.ts";
import { trainingPass } from "../../../model/vorta/training_pass.ts";
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { LATENTS, POOLED_DIM, TEXT_DIM, TEXT_TOKENS, tinyModel } from "./tiny.ts";

const SIZE = LATENTS.reduce((a, b) => a * b);

async function withModel<T>(
  gpu: Gpu,
  work: (model: VideoTransformer) => Promise<T>,
  options?: TransformerOptions,
): Promise<T> {
  using tiny = await tinyModel();
  using model = await tiny.loadTransformer(gpu, options);
  return await work(model);
}

function conditioningOf(gpu: Gpu, textLength: number, padding = 3): Conditioning & { readonly pooled: Tensor } {
  const text = randn(TEXT_TOKENS * TEXT_DIM, 4).fill(padding, textLength * TEXT_DIM);
  return {
    text: gpu.upload(text, [1, TEXT_TOKENS, TEXT_DIM]),
    textLength,
    pooled: gpu.upload(randn(POOLED_DIM, 5), [1, POOLED_DIM]),
    guidance: 6,
  };
}

/** What the model predicts with full attention; read back. */
async function predicted(gpu: Gpu, model: VideoTransformer, conditioning: Conditioning) {
  const latents = gpu.upload(randn(SIZE, 6), LATENTS);
  using full = new FullAttention(gpu, model.shape, model.layout(LATENTS, conditioning));
  const pass = {
    latents,
    timesteps: [500],
    conditioning,
    selfAttention: (q: Tensor, k: Tensor, v: Tensor) => full.attend(q, k, v),
  };
  const [velocity] = await model.predict([pass]), numbers = await gpu.read(velocity!);
  for (const tensor of [latents, velocity!]) gpu.release(tensor);
  return numbers;
}

testVariants(
  "HunyuanVideo: streamed blocks of two kinds give what resident ones give, and nothing is left",
  async ({ gpu }) => {
    gpu.trim();
    void gpu.placeholder; // It stays with the device.
    const before = gpu.memory.used, numbers: Float32Array[] = [];
    for (const place of ["resident", "stream"] as const) {
      const conditioning = conditioningOf(gpu, 7);
      numbers.push(await withModel(gpu, (model) => predicted(gpu, model, conditioning), { place }));
      for (const tensor of [conditioning.text, conditioning.pooled]) gpu.release(tensor);
    }
    assertEquals(numbers[1], numbers[0]);
    assertEquals(gpu.memory.used, before);
  },
);

testVariants(
  "HunyuanVideo: padding does not count, but prompt, its vector and guidance do",
  ({ gpu, bound }) =>
    withModel(gpu, async (model) => {
      const usual = conditioningOf(gpu, 7), first = await predicted(gpu, model, usual);
      assertClose(await predicted(gpu, model, conditioningOf(gpu, 7, -20)), first, 10 * bound);
      const others: Partial<Conditioning>[] = [
        { textLength: 6 },
        { pooled: gpu.upload(randn(POOLED_DIM, 9), [1, POOLED_DIM]) },
        { guidance: 1 },
      ];
      for (const other of others) assertNotEquals(await predicted(gpu, model, { ...usual, ...other }), first);
    }),
);

testVariants(
  "HunyuanVideo: a prompt that is not a vector, too, is refused",
  ({ gpu }) =>
    withModel(gpu, async (model) => {
      const { pooled: _, ...textAlone } = conditioningOf(gpu, TEXT_TOKENS);
      await assertRejects(() => predicted(gpu, model, textAlone), TilereelError, "needs the prompt as one vector");
    }),
);

testVariants(
  "HunyuanVideo: the embedding of routers is that of the timestep alone",
  ({ gpu, bound }) =>
    withModel(gpu, async (model) => {
      const both = await model.timeEmbedding([500, 20]), one = await model.timeEmbedding([20]);
      assertEquals(both.length, 128);
      assertClose(both.subarray(64), one, bound);
    }),
);

testVariants(
  "HunyuanVideo: the gradients of routing scores in blocks of both kinds are slopes of the losses",
  ({ gpu }) =>
    withModel(gpu, async (model) => {
      const { layers, heads } = model.shape, conditioning = conditioningOf(gpu, 7);
      const input = {
        noisy: gpu.upload(randn(SIZE, 1), LATENTS),
        target: gpu.upload(randn(SIZE, 2), LATENTS),
        conditioning: { ...conditioning, guidance: 1 },
        timestep: 700,
        scores: new Float32Array(layers * heads * 3).fill(1 / 3),
        settings: { tile: [1, 2, 2], window: [1, 1, 1], bucket: [1, 2, 2], rate: 0.5 } as const,
        weights: { diffusion: 1, distillation: 20, hidden: 0.5 },
      };
      const { losses, scoreGradients } = await trainingPass(gpu, model, input);
      assert(Object.values(losses).every((loss) => Number.isFinite(loss) && loss > 0));
      const total = async (index: number, change: number) => {
        const scores = input.scores.map((score, i) => i === index ? score + change : score);
        const { diffusion, distillation, hidden } = (await trainingPass(gpu, model, { ...input, scores })).losses;
        return diffusion + 20 * distillation + 0.5 * hidden;
      };
      // With a longer step, core-set attention selects other tokens.
      const step = 0.005, slopes: number[] = [], gradients: number[] = [];
      for (let layer = 0; layer < layers; layer++) {
        const head = layer % heads, index = (layer * heads + head) * 3 + layer % 3;
        slopes.push((await total(index, step) - await total(index, -step)) / (2 * step));
        gradients.push(scoreGradients[index]!);
      }
      assertClose(gradients, slopes, 2e-4);
    }),
  ({ gpu }) => !gpu.f16,
);
