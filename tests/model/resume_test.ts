/** A clip that is broken off goes on from any of its steps, and is the same to the byte. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { easyCache } from "../../model/cache/easy.ts";
import { firstBlockCache } from "../../model/cache/first_block.ts";
import { openSafetensors, readFloat32 } from "../../model/checkpoint/safetensors.ts";
import { writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { type GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { SamplingState } from "../../model/sampling_state.ts";
import { loadSamplingState, saveSamplingState } from "../../model/state_file.ts";
import { vedaAttention } from "../../model/veda/methods.ts";
import { readPicture } from "../../model/video/read/picture.ts";
import { testOnGpu } from "../gpu.ts";
import { inTempDir } from "../process.ts";
import { testPipeline } from "../test_pipeline.ts";

const CLIP = { prompt: "a red circle", width: 32, height: 32, frames: 5, steps: 4, seed: 3, stateInterval: 0 };

const CLIPS: Readonly<Record<string, Partial<GenerateOptions>>> = {
  "UniPC": { scheduler: "unipc", guidance: 3 },
  "Euler, with Veda": { scheduler: "euler", guidance: 1, attention: vedaAttention({ keep: 0.5, tileTokens: 8 }) },
  "LCM, which draws noise in each step": { scheduler: "lcm", guidance: 1 },
  "DMD, from noise that is given": {
    scheduler: "dmd",
    guidance: 1,
    latents: { data: new Float32Array(16 * 2 * 4 * 4).map((_, i) => Math.sin(i)), shape: [1, 16, 2, 4, 4] },
  },
  "EasyCache": { guidance: 3, cache: easyCache({ threshold: 0.5, first: 2 }) },
};

async function latentsOf(gpu: Gpu, pipeline: VideoPipeline, options: Partial<GenerateOptions>) {
  const told: unknown[] = [],
    latents = await pipeline.sampleLatents({
      ...{ ...CLIP, ...options },
      onAttention: ({ density }) => told.push(density),
      onCache: (report) => told.push(...report),
    });
  const numbers = await gpu.read(latents);
  gpu.release(latents);
  return { numbers, told };
}

testPipeline("from each step of each scheduler", async (pipeline, gpu) => {
  for (const [name, options] of Object.entries(CLIPS)) {
    const whole = await latentsOf(gpu, pipeline, options);
    if (options.cache) assert(whole.told.some((told) => Array.isArray(told) && told[1].steps > 0), "it spared nothing");
    const states: SamplingState[] = [];
    const seen = await latentsOf(gpu, pipeline, { ...options, onState: (state) => void states.push(state) });
    assertEquals(seen, whole, `${name}: to read states changes nothing`);
    assertEquals(states.map(({ step, steps }) => [step, steps]), [1, 2, 3, 4].map((step) => [step, 4]));
    for (const state of name.startsWith("UniPC") ? states : states.slice(1, 2)) {
      const { used } = gpu.memory, done: number[] = [], after: number[] = [];
      const resumed = await latentsOf(gpu, pipeline, {
        ...options,
        resumeFrom: structuredClone(state),
        onState: ({ step }) => void after.push(step),
        onProgress: ({ stage, done: steps }) => stage === "denoise" && done.push(steps),
      });
      assertEquals(resumed, whole, `${name}: after step ${state.step}`);
      assertEquals([done[0], done.at(-1)], [state.step, 4]);
      assertEquals(after, [1, 2, 3, 4].slice(state.step));
      assertEquals(gpu.memory.used, used);
    }
  }
});

testPipeline("a state is read where so much time has passed since the last one", async (pipeline) => {
  const { now } = performance, steps: number[] = [];
  let time = 0;
  performance.now = () => time;
  try {
    const run = (stateInterval: number) =>
      pipeline.generate({
        ...{ ...CLIP, guidance: 1, steps: 8, stateInterval },
        onState: ({ step }) => void steps.push(step),
        // It is called before the first step, and before each one after the second: the last is recorded after 700 ms.
        onProgress: ({ stage }) => void (stage === "denoise" && (time += 100)),
      });
    await run(300);
    assertEquals(steps, [4, 7, 8]);
    await run(701);
    assertEquals(steps.length, 3, "a clip that takes less has none");
  } finally {
    performance.now = now;
  }
});

for (const name of ["tiny_wan_i2v_pipeline", "tiny_wan_ti2v_pipeline", "tiny_wan_a14b_pipeline"]) {
  testOnGpu(`from each step of image to video, of two experts before and after they change: ${name}`, async (gpu) => {
    const folder = new URL(`../fixtures/${name}`, import.meta.url).pathname;
    using source = await openSafetensors(`${folder}/reference.safetensors`);
    const [positive, negative] = await Promise.all([
      readFloat32(source, "prompt_embeds"),
      readFloat32(source, "negative_prompt_embeds"),
    ]);
    const options: Partial<GenerateOptions> = {
      embeddings: { positive, negative },
      image: await readPicture(`${folder}/first.png`),
      guidance: 3,
      // A14B's experts change between the second and the third step, at 0.9.
      ...{ sigmas: [1, 0.95, 0.85, 0.4], flowShift: 1 },
    };
    for (const weights of ["resident", "stream"] as const) {
      const pipeline = await VideoPipeline.load(folder, { gpu, weights });
      try {
        const states: SamplingState[] = [];
        const whole = await latentsOf(gpu, pipeline, { ...options, onState: (state) => void states.push(state) });
        assertEquals(states.map(({ step }) => step), [1, 2, 3, 4]);
        for (const state of states.slice(0, weights === "stream" ? 1 : 3)) {
          const resumed = await latentsOf(gpu, pipeline, { ...options, resumeFrom: structuredClone(state) });
          assertEquals(resumed, whole, `${weights}, after step ${state.step}`);
        }
      } finally {
        pipeline.close();
      }
    }
  });
}

testPipeline("over a file, which is checked when it is read", (pipeline, gpu) =>
  inTempDir(async (dir) => {
    const path = `${dir}/clip.state`, options = { guidance: 3, cache: easyCache({ threshold: 0.5, first: 2 }) };
    const whole = await latentsOf(gpu, pipeline, {
      ...options,
      onState: (state) => state.step === 3 ? saveSamplingState(path, state) : undefined,
    });
    const resumeFrom = await loadSamplingState(path);
    assertEquals([resumeFrom.step, resumeFrom.steps], [3, 4]);
    assertEquals(await latentsOf(gpu, pipeline, { ...options, resumeFrom }), whole);
    const bytes = await Deno.readFile(path);
    bytes[bytes.length - 2]! ^= 1;
    await Deno.writeFile(path, bytes);
    await assertRejects(() => loadSamplingState(path), TilereelError, "its checksum does not match; remove it, and");
    await writeSafetensors(path, { latents: { dtype: "F32", data: new Float32Array(16), shape: [16] } });
    await assertRejects(() => loadSamplingState(path), TilereelError, "is not the state of a clip");
  }));

testPipeline(
  "a cache that keeps too much has no states, and the state of another clip is refused",
  async (pipeline) => {
    const states: SamplingState[] = [], onState = (state: SamplingState) => void states.push(state);
    await pipeline.generate({ ...CLIP, cache: firstBlockCache(), onState });
    assertEquals(states, []);
    await pipeline.generate({ ...CLIP, onState });
    const [state] = states, resumeFrom = state!;
    for (
      const [options, message] of [
        [{ resumeFrom, steps: 7 }, "is of another clip: step 1 of 4"],
        [{ resumeFrom, width: 64 }, "but this clip has 4 steps and [1, "],
        [{ resumeFrom, scheduler: "euler" }, "begun with another scheduler"],
        [{ resumeFrom, guidance: 1 }, "it has [4, 2, "],
        [{ resumeFrom: { ...resumeFrom, step: 7 } }, "is of another clip"],
        [{ resumeFrom: { ...resumeFrom, tensors: {} } }, "is of another clip"],
        [{ resumeFrom: { ...resumeFrom, tensors: { latents: 1 } } }, "resumeFrom is an object, but a state"],
        [{ resumeFrom: 3 }, "resumeFrom is 3, but a state, as onState is given it, was expected"],
      ] as const
    ) await assertRejects(() => pipeline.generate({ ...CLIP, ...options as object }), TilereelError, message);
  },
);
