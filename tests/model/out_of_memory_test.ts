/** Memory that runs out in the middle: the clip goes on with less, and is the same. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { OutOfMemoryError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { openModel } from "../../model/checkpoint/model_folder.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import type { Progress } from "../../model/progress.ts";
import { type GenerateOptions, type LoadOptions, VideoPipeline } from "../../model/pipeline.ts";
import { testOnGpu } from "../gpu.ts";
import { execute, inTempDir, program, tilereel } from "../process.ts";
import { limitMemory, refuseTensors } from "../refuse_memory.ts";

const CLIP = { prompt: "a red circle", width: 64, height: 64, frames: 9, steps: 2, seed: 1 };

const load = (gpu: Gpu, options: Omit<LoadOptions, "gpu"> = {}) =>
  VideoPipeline.load(embeddedModelDir(), { gpu, ...options });

/** The latents of the clip. */
async function latentsOf(gpu: Gpu, pipeline: VideoPipeline, options: Partial<GenerateOptions> = {}) {
  const latents = await pipeline.sampleLatents({ ...CLIP, ...options }), numbers = [...await gpu.read(latents)];
  gpu.release(latents);
  return numbers;
}

/** Those that are made without a limit. */
async function made(gpu: Gpu): Promise<number[]> {
  using pipeline = closing(await load(gpu));
  return await latentsOf(gpu, pipeline);
}

function closing(pipeline: VideoPipeline): VideoPipeline & Disposable {
  return Object.assign(pipeline, { [Symbol.dispose]: () => pipeline.close() });
}

testOnGpu("weights that the GPU has no memory for are streamed", async (gpu) => {
  gpu.poison = false;
  const expected = await made(gpu);
  const held = async (weights: "resident" | "stream") => {
    using _ = closing(await load(gpu, { weights }));
    return gpu.memory.held;
  };
  // Half of the weights fit.
  limitMemory(gpu.device, (await held("resident") + await held("stream")) / 2);
  await assertRejects(() => load(gpu, { weights: "resident" }), OutOfMemoryError, "the GPU has no");
  assert(await gpu.recover());
  using pipeline = closing(await load(gpu));
  const { place, why } = pipeline.weights;
  assertEquals({ place, why }, { place: "stream", why: "they did not fit the GPU's memory" });
  assertEquals(await latentsOf(gpu, pipeline), expected);
});

testOnGpu("memory that runs out before the first step: the clip begins again with streamed weights", async (gpu) => {
  gpu.poison = false;
  const expected = await made(gpu), notes: string[] = [];
  let refuses = false;
  refuseTensors(gpu.device, () => refuses && !(refuses = false));
  const begins = ({ stage, done }: Progress) => refuses ||= stage === "denoise" && done === 0 && steps.length === 0;
  const steps: number[] = [];
  {
    using resident = closing(await load(gpu, { weights: "resident" }));
    await assertRejects(
      () => latentsOf(gpu, resident, { onProgress: begins }),
      OutOfMemoryError,
      "the GPU has no",
    );
  }
  assert(await gpu.recover());
  gpu.trim();
  using pipeline = closing(await load(gpu));
  assertEquals(pipeline.weights.place, "resident");
  const { used } = gpu.memory;
  const onNote = (note: string) => void (note.startsWith("GPU memory ran out") && notes.push(note));
  const latents = await latentsOf(gpu, pipeline, {
    onNote,
    onProgress: (progress) => {
      begins(progress);
      if (progress.stage === "denoise") steps.push(progress.done);
    },
  });
  assertEquals(latents, expected);
  assertEquals(steps.slice(-3), [0, 1, 2]);
  assertEquals(pipeline.weights.place, "stream");
  assert(gpu.memory.used < used);
  assertEquals(notes.length, 1);
  assertStringIncludes(notes[0]!, "GPU memory ran out, so the weights are read from disk in each step from now on");
  assertStringIncludes(notes[0]!, "and the clip begins again");
  // So is the next clip, without a note.
  assertEquals(await latentsOf(gpu, pipeline, { onNote }), expected);
  assertEquals(notes.length, 1);
});

testOnGpu("memory that runs out in a later step: the clip goes on after the last one that was read", async (gpu) => {
  gpu.poison = false;
  const clip = { ...CLIP, width: 32, height: 32, frames: 5, steps: 4, stateInterval: 0 };
  using pipeline = closing(await load(gpu));
  const expected = await latentsOf(gpu, pipeline, clip), steps: number[] = [], notes: string[] = [];
  let refuses = false, refused = 0;
  refuseTensors(gpu.device, () => {
    const now = refuses && refused === 0;
    if (now) refused++;
    return now;
  });
  const latents = await latentsOf(gpu, pipeline, {
    ...clip,
    onNote: (note) => void (note.startsWith("GPU memory ran out") && notes.push(note)),
    onProgress: ({ stage, done }) => {
      if (stage === "denoise") steps.push(done);
      refuses = steps.includes(2);
      // Otherwise, the buffers of the steps before are used again.
      gpu.trim();
    },
  });
  assertEquals([steps, refused, pipeline.weights.place], [[0, 1, 2, 2, 3, 4], 1, "stream"]);
  assertEquals(latents, expected);
  assertStringIncludes(notes[0]!, "and the clip goes on after step 2 of 4");
});

testOnGpu("where somebody follows the steps, no step is taken twice", async (gpu) => {
  gpu.poison = false;
  using pipeline = closing(await load(gpu));
  limitMemory(gpu.device, 1e5);
  await assertRejects(() => pipeline.generate({ ...CLIP, onStep: () => {} }), OutOfMemoryError);
  assertEquals(pipeline.weights.place, "resident");
});

testOnGpu("memory that runs out while a clip is decoded: frame by frame, in tiles, in small tiles", async (gpu) => {
  gpu.poison = false;
  const clip = { ...CLIP, width: 288, height: 16, frames: 5, steps: 1, guidance: 1 };
  using pipeline = closing(await load(gpu));
  let refusals = 0, armed = false;
  refuseTensors(gpu.device, () => {
    const refuse = armed && refusals > 0;
    if (refuse) [refusals, armed] = [refusals - 1, false];
    return refuse;
  });
  const generate = async (times: number) => {
    const notes: string[] = [], tiles: number[] = [];
    [refusals, armed] = [times, false];
    const { data } = await pipeline.generate({
      ...clip,
      onNote: (note) => note.startsWith("GPU memory ran out") && notes.push(note),
      onProgress: ({ stage, done, total }) => {
        if (stage !== "decode" || done > 0) return;
        armed = true;
        tiles.push(total / 2);
      },
    });
    assertEquals(refusals, 0);
    return { data, tiles, how: notes.map((note) => /begins again (.*)$/.exec(note)?.[1]) };
  };
  const whole = await generate(0);
  assertEquals([whole.tiles, whole.how], [[1], []]);
  const frames = await generate(1);
  assertEquals([frames.tiles, frames.how], [[1, 1], ["frame by frame"]]);
  assertEquals(frames.data, whole.data);
  const small = await generate(3);
  assertEquals(small.tiles, [1, 1, 2, 3]);
  assertEquals(small.how, [
    "frame by frame",
    "in tiles, whose seams are blended",
    "in small tiles, whose seams are blended",
  ]);
  using model = await openModel(embeddedModelDir());
  using vae = await model.loadVae(gpu, "decoder");
  const sampled = await pipeline.sampleLatents(clip), latents = vae.denormalize(sampled);
  assertEquals(small.data, await vae.decodeRgb8(latents, { frugal: "small tiles" }));
  for (const tensor of [sampled, latents]) gpu.release(tensor);
  await assertRejects(() => generate(4), OutOfMemoryError);
});

Deno.test("on the command line, a clip on a GPU with too little memory is the same file, with a note", () =>
  inTempDir(async (dir) => {
    const args = (out: string) => {
      const { width, height, frames, steps, seed } = CLIP;
      const options = { size: `${width}x${height}`, frames, steps, seed, out: `${dir}/${out}.gif` };
      return ["generate", CLIP.prompt, ...Object.entries(options).map(([name, value]) => `--${name}=${value}`)];
    };
    const usual = await tilereel(args("usual"));
    assertEquals(usual.code, 0, usual.err);
    const scarce = await execute(
      Deno.execPath(),
      program("tests/refuse_memory.ts", ["decoded frames", ...args("scarce")]),
    );
    assertEquals(scarce.code, 0, scarce.err);
    assertEquals(scarce.err.match(/GPU memory ran out/g)?.length, 1, scarce.err);
    assertStringIncludes(scarce.err, "frame by frame");
    assertEquals(await Deno.readFile(`${dir}/scarce.gif`), await Deno.readFile(`${dir}/usual.gif`));
  }));
