import { countModel } from "../../bench/memory/count.ts";
import { STAGES } from "../../model/estimate/clip_memory.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { dryGpu } from "../../gpu/device/dry.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AttentionMethod } from "../../model/attention/method.ts";
import type { AttentionReport } from "../../model/attention/report.ts";
import { openModel } from "../../model/checkpoint/model_folder.ts";
import { registerFamily } from "../../model/families.ts";
import { type GenerateOptions, type LoadOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { Video } from "../../model/video/video.ts";
import { vedaAttention } from "../../model/veda/methods.ts";
import type { TileScorer } from "../../model/veda/scorer.ts";
import { TileParameters } from "../../model/veda/tile_parameters.ts";
import { routedAttention } from "../../model/vorta/methods.ts";
import { routedModel } from "../../model/vorta/routed_model.ts";
import { Router, routerShape } from "../../model/vorta/router.ts";
import { defaultSettings } from "../../model/vorta/settings.ts";
import { trainingPass } from "../../model/vorta/training_pass.ts";
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { assertClose, plainOnly, randn, testVariants } from "../gpu.ts";
import { SHAPE, TOY, toyModel } from "./toy_family.ts";

const CLIP = { prompt: "a red circle", negativePrompt: "blur", seed: 3 };

Deno.test("a family is unknown until it is registered", async () => {
  await assertRejects(
    () => openModel(toyModel()),
    TilereelError,
    'this model is a "ToyPipeline", but only text or pictures to video with Wan or HunyuanVideo is supported',
  );
  registerFamily(TOY);
  using model = await openModel(toyModel());
  assertEquals(model.family, TOY);
});

async function withPipeline<T>(
  gpu: Gpu,
  work: (pipeline: VideoPipeline) => Promise<T>,
  options: Omit<LoadOptions, "gpu"> = {},
): Promise<T> {
  const pipeline = await VideoPipeline.of(await openModel(toyModel()), { ...options, gpu });
  try {
    return await work(pipeline);
  } finally {
    pipeline.close();
  }
}

/** The latents of a clip. */
async function latents(gpu: Gpu, pipeline: VideoPipeline, options: Partial<GenerateOptions> = {}) {
  const sampled = await pipeline.sampleLatents({ ...CLIP, ...options });
  const numbers = await gpu.read(sampled);
  gpu.release(sampled);
  return numbers;
}

Deno.test("the toy family generates on a dry device", async () => {
  const gpu = dryGpu();
  const { width, height, frames, data } = await withPipeline(gpu, (pipeline) => pipeline.generate(CLIP));
  assertEquals([width, height, frames, data.length], [48, 32, 4, 48 * 32 * 4 * 3]);
});

testVariants("the toy family generates; streamed blocks of two kinds give the same", async ({ gpu }) => {
  const render = (options: Omit<LoadOptions, "gpu">) =>
    withPipeline(gpu, async (pipeline) => {
      const clip = await pipeline.generate(CLIP), { place, bytes } = pipeline.weights;
      return { clip, other: await latents(gpu, pipeline, { prompt: "a red circle?" }), place, bytes };
    }, options);
  const resident = await render({}), { used } = gpu.memory, streamed = await render({ weights: "stream" });
  assertEquals([resident.place, streamed.place], ["resident", "stream"]);
  assertEquals(streamed.clip, resident.clip);
  assert(new Set(resident.clip.data).size > 50);
  assertEquals(gpu.memory.used, used);
});

testVariants(
  "each step has a preview of the clip, and the last one is the clip",
  ({ gpu }) =>
    withPipeline(gpu, async (pipeline) => {
      const bare = await pipeline.generate(CLIP),
        { used } = gpu.memory,
        previews: [step: number, preview: Video][] = [];
      const onPreview = async (clean: Tensor, step: number) => {
        previews.push([step, (await pipeline.preview(clean))!]);
      };
      const clip = await pipeline.generate({ ...CLIP, onPreview });
      assertEquals(clip, bare);
      assertEquals(gpu.memory.used, used);
      assertEquals(previews.map(([step]) => step), [0, 1, 2]);
      const [first, , last] = previews.map(([, preview]) => preview);
      assertEquals({ ...last!, data: clip.data }, clip);
      assert(last!.data.every((value, i) => Math.abs(value - clip.data[i]!) <= 1));
      assertNotEquals(first!.data, last!.data);
    }),
);

testVariants("text tokens count as far as the prompt goes", ({ gpu, bound }) =>
  withPipeline(gpu, async (pipeline) => {
    const full = await latents(gpu, pipeline);
    assertNotEquals(await latents(gpu, pipeline, { prompt: "a red square" }), full);
    // More padding, which the encoder fills with other numbers than the prompt's.
    assertClose(await latents(gpu, pipeline, { textTokens: 30 }), full, 10 * bound);
  }));

testVariants(
  "a pass is told the scale of guidance, with or without a second pass",
  ({ gpu }) =>
    withPipeline(gpu, async (pipeline) => {
      // No negative prompt counts: the numbers differ by what is embedded alone.
      const [one, half] = [
        await latents(gpu, pipeline, { guidance: 1 }),
        await latents(gpu, pipeline, { guidance: 0.5 }),
      ];
      assertNotEquals(half, one);
      const notes: string[] = [], onNote = (note: string) => void notes.push(note);
      assertEquals(await latents(gpu, pipeline, { guidance: 1, negativePrompt: "noise", onNote }), one);
      assertEquals(notes.filter((note) => note.startsWith("the negative prompt has no effect")).length, 1);
      assertNotEquals(await latents(gpu, pipeline), await latents(gpu, pipeline, { negativePrompt: "noise" }));
    }),
  plainOnly,
);

testVariants("the toy family routes through VORTA and Veda", ({ gpu, bound }) =>
  withPipeline(gpu, async (pipeline) => {
    const settings = defaultSettings, router = Router.random(routerShape(SHAPE), 1);
    const run = async (attention?: AttentionMethod) => {
      const reports: AttentionReport[] = [];
      const onAttention = (report: AttentionReport) => void reports.push(report);
      const numbers = await latents(gpu, pipeline, { ...attention && { attention }, onAttention });
      return { numbers, density: reports[0]!.density };
    };
    const full = await run();
    for (
      const [sparse, dense] of [
        [routedAttention({ router, settings, tau: 0 }), routedAttention({ router, settings, tau: 1 })],
        [vedaAttention({ keep: 0.2, tileTokens: 8, denseSteps: 0 }), vedaAttention({ keep: 1, tileTokens: 8 })],
      ] as const
    ) {
      const all = await run(dense), some = await run(sparse);
      assertEquals(all.density, 1);
      assertClose(all.numbers, full.numbers, 10 * bound);
      assert(some.density < 0.9 && some.numbers.every(Number.isFinite), `density ${some.density}`);
      assertNotEquals(some.numbers, full.numbers);
    }
  }));

testVariants("a scorer's layers are found by their names", ({ gpu }) =>
  withPipeline(gpu, async (pipeline) => {
    using parameters = TileParameters.random(gpu, SHAPE, 1);
    const scorer = await parameters.scorer(), { layers, layerPrefixes } = scorer;
    const reversed = { ...scorer, layers: layers.toReversed(), layerPrefixes: layerPrefixes!.toReversed() };
    const run = (scorer: TileScorer) =>
      latents(gpu, pipeline, { attention: vedaAttention({ keep: 0.2, tileTokens: 8, scorer }) });
    assertEquals(await run(reversed), await run(scorer));
    await assertRejects(
      () => run({ ...scorer, layerPrefixes: undefined }),
      TilereelError,
      "its scorer is for 4 layers",
    );
  }), plainOnly);

testVariants("routers are trained on the toy family", async ({ gpu }) => {
  using model = await openModel(toyModel());
  using transformer = await model.loadTransformer(gpu);
  using prompts = model.promptEncoder(gpu);
  const [prompt] = await prompts.encode(["a red circle"], 16), conditioning = { ...prompt!, guidance: 1 };
  const shape = [...model.latentShape({ width: 48, height: 32, frames: 4 })], size = shape.reduce((a, b) => a * b);
  const [noisy, target] = [1, 2].map((seed) => gpu.upload(randn(size, seed), shape));
  const input = {
    ...{ noisy: noisy!, target: target!, timestep: 500, conditioning },
    scores: new Float32Array(SHAPE.layers * SHAPE.heads * 3).fill(1 / 3),
    settings: defaultSettings(model.layout({ width: 48, height: 32, frames: 4 }).grid),
    weights: { diffusion: 1, distillation: 1, hidden: 1 },
  };
  const result = await trainingPass(gpu, transformer, input), { losses, scoreGradients } = result;
  assert(Object.values(losses).every((loss) => loss > 0 && Number.isFinite(loss)));
  assert(scoreGradients.every((gradient) => Number.isFinite(gradient)) && scoreGradients.some((g) => g !== 0));
  // Gradients flow back through dual-stream blocks: those of the first layer are slopes of the loss.
  const total = async (index: number, change: number) => {
    const scores = input.scores.map((score, i) => i === index ? score + change : score);
    const { losses } = await trainingPass(gpu, transformer, { ...input, scores });
    return losses.diffusion + losses.distillation + losses.hidden;
  };
  if (!gpu.f16) {
    const slope = (await total(5, 0.1) - await total(5, -0.1)) / 0.2, gradient = scoreGradients[5]!;
    assert(Math.abs(slope - gradient) <= 0.05 * Math.abs(slope), `slope ${slope}, gradient ${gradient}`);
  }
  // Padding counts neither for the routed stream nor for the reference stream.
  const { text, textLength = 16 } = conditioning, padded = await gpu.read(text);
  const padding = gpu.upload(padded.fill(9, textLength * text.dim(2)), text.shape);
  const other = await trainingPass(gpu, transformer, { ...input, conditioning: { ...conditioning, text: padding } });
  assertEquals(other, result);

  // A sample's conditioning is that of its prompt: what passes embed is added when it is trained on, at a scale of 1.
  const read = async (tensor: Tensor) => ({ data: await gpu.read(tensor), shape: tensor.shape });
  const sample = { text: await read(text), textLength };
  const host = { ...input, noisy: await read(noisy!), target: await read(target!), conditioning: sample };
  assertEquals(await routedModel(gpu, model, transformer).pass(host), result);
  const scaled = await trainingPass(gpu, transformer, { ...input, conditioning: { ...conditioning, guidance: 6 } });
  assertNotEquals(scaled.losses, losses);
  for (const tensor of [noisy!, target!, text, padding]) gpu.release(tensor);
});

Deno.test("the toy family's memory is planned", async () => {
  const clip = { width: 480, height: 320, frames: 8 };
  for (const attention of [undefined, vedaAttention({ keep: 0.2 })]) {
    const model = await openModel(toyModel());
    const { peaks, place } = await countModel(model, { ...clip, ...attention && { attention } });
    assertEquals(place, "resident");
    const taken = peaks.denoise.held - peaks.load.held, planned = model.denoisingBytes(dryGpu(), clip);
    assert(taken <= planned && taken > planned / 3, `${taken} of ${planned} bytes`);
    for (const stage of STAGES) assert(peaks[stage].parts.length > 0);
  }
  const limit = 170e6;
  const { peaks, place } = await countModel(await openModel(toyModel()), { ...clip, device: { memoryLimit: limit } });
  assertEquals(place, "stream");
  for (const stage of STAGES) assert(peaks[stage].held <= limit);
});
