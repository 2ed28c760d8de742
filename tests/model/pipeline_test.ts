import { assert, assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { GenerateOptions } from "../../model/pipeline.ts";
import { testPipeline } from "../test_pipeline.ts";

const CLIP: GenerateOptions = { prompt: "a red circle", width: 32, height: 48, frames: 5, steps: 2, seed: 3 };

testPipeline("clips do not depend on what was rendered before, and leave no memory behind", async (pipeline, gpu) => {
  const first = await pipeline.generate(CLIP);
  const { used } = gpu.memory;
  const other = await pipeline.generate({ ...CLIP, prompt: "a blue ring", width: 64, seed: 4 });
  const again = await pipeline.generate(CLIP);
  assertEquals(first.data, again.data);
  assertEquals(other.data.length, 5 * 48 * 64 * 3);
  assertEquals(gpu.memory.used, used);
  assert(new Set(first.data).size > 16, "the clip has hardly any colours");
});

testPipeline("guidance of 1 asks the model once, and changes the clip", async (pipeline) => {
  const plain = await pipeline.generate({ ...CLIP, guidance: 1 });
  const guided = await pipeline.generate({ ...CLIP, guidance: 6 });
  const negative = await pipeline.generate({ ...CLIP, guidance: 6, negativePrompt: "a green square" });
  assert(plain.data.some((v, i) => v !== guided.data[i]));
  assert(guided.data.some((v, i) => v !== negative.data[i]));
});

testPipeline("one frame, and progress that begins at nothing and ends at all", async (pipeline) => {
  const stages = new Map<string, [first: number, last: number, total: number]>();
  const video = await pipeline.generate({
    ...CLIP,
    frames: 1,
    onProgress: ({ stage, done, total }) => stages.set(stage, [stages.get(stage)?.[0] ?? done, done, total]),
  });
  assertEquals(video.data.length, 48 * 32 * 3);
  for (const stage of ["encode prompt", "denoise", "decode"]) {
    const [first, last, total] = stages.get(stage)!;
    assertEquals([first, last], [0, total], stage);
  }
});

testPipeline("a run can be aborted, and the pipeline used again", async (pipeline, gpu) => {
  await pipeline.generate(CLIP);
  const { used } = gpu.memory;
  const controller = new AbortController();
  const run = pipeline.generate({
    ...CLIP,
    signal: controller.signal,
    onStep: () => controller.abort(new Error("stop")),
  });
  await assertRejects(() => run, Error, "stop");
  assertEquals(gpu.memory.used, used);
  await pipeline.generate(CLIP);
});

testPipeline("settings that do not fit are refused in a sentence", async (pipeline) => {
  const refused = (options: Partial<GenerateOptions>, message: string) =>
    assertRejects(() => pipeline.generate({ ...CLIP, ...options }), TilereelError, message);
  await refused({ frames: 6 }, "the nearest that fit are 5 and 9");
  await refused({ width: 40 }, "the nearest that fits is 48x48");
  await refused({ steps: 0 }, "steps");
  await refused({ latents: { data: new Float32Array(4), shape: [1, 4] } }, "need [1, 16, 2, 6, 4]");
  await refused({ embeddings: { positive: new Float32Array(100) } }, "negative");
  await refused({ embeddings: { positive: new Float32Array(100) }, guidance: 1 }, "rows of 128");
  for (const seed of [-1, 0.5, 2 ** 32]) {
    await refused({ seed }, `seed is ${seed}, but a whole number from 0 to 4294967295`);
  }
  await refused({ prompt: undefined as unknown as string }, "needs the option prompt: a text that says what to show");
});

testPipeline("a step is recorded while the one before is under way, and none while two are", async (pipeline, gpu) => {
  const seen: string[] = [];
  const finish = gpu.finish.bind(gpu), readBytes = gpu.readBytes.bind(gpu);
  let steps = 0, reading = false;
  // What is read after a step waits for the device, too.
  gpu.readBytes = (tensor) => {
    reading = true;
    const bytes = readBytes(tensor);
    reading = false;
    return bytes;
  };
  const onProgress = ({ stage, done }: { stage: string; done: number }) => {
    if (stage !== "denoise") return;
    if (done > 0) return void seen.push(`told ${done}`);
    gpu.finish = async () => {
      if (reading) return await finish();
      const step = ++steps;
      seen.push(`recorded ${step}`);
      await finish();
      seen.push(`done ${step}`);
    };
  };
  const latents = await pipeline.sampleLatents({ ...CLIP, steps: 4, onProgress });
  Object.assign(gpu, { finish, readBytes });
  gpu.release(latents);
  assertEquals(seen, [
    ...["recorded 1", "recorded 2", "done 1", "told 1", "recorded 3", "done 2", "told 2", "recorded 4", "done 3"],
    ...["told 3", "done 4", "told 4"],
  ]);
});
