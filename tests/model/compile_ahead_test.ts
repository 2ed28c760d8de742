/** The kernels of a clip's steps are compiled together, before the first step is recorded. */
import { assert, assertEquals } from "@std/assert";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import type { AttentionMethod } from "../../model/attention/method.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { type GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import { vedaAttention } from "../../model/veda/methods.ts";
import { testVariants } from "../gpu.ts";

const METHODS: readonly Partial<GenerateOptions>[] = [{}, { attention: vedaAttention({ keep: 0.5, tileTokens: 8 }) }];

Deno.test("one after the other, only what joins the velocities of passes and steps is compiled", async () => {
  const gpu = dryGpu({ precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS, subgroup: 32 });
  const { createComputePipeline } = gpu.device, alone: string[] = [];
  gpu.device.createComputePipeline = (descriptor) => {
    alone.push(descriptor.label!);
    return createComputePipeline(descriptor);
  };
  const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu });
  for (const method of METHODS) {
    const latents = await pipeline.sampleLatents({
      ...{ ...method, prompt: "a red circle", width: 512, height: 512, frames: 61, steps: 6 },
      onProgress: ({ stage, done }) => stage === "denoise" && done === 0 && alone.splice(0),
    });
    gpu.release(latents);
    assertEquals(alone.filter((name) => !name.startsWith("combine_")), []);
  }
  pipeline.close();
});

Deno.test("attention that somebody observes is run once for each layer, pass and step", async () => {
  const gpu = dryGpu({ precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS, subgroup: 32 }), seen: string[] = [];
  const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu }), inner = vedaAttention({ keep: 0.1 });
  const clip = { prompt: "a red circle", width: 512, height: 512, frames: 61, steps: 3 };
  const tiles: AttentionMethod = {
    prepare: (task) =>
      inner.prepare({ ...task, onTiles: ({ step, pass, layer }) => void seen.push(`tiles ${step} ${pass} ${layer}`) }),
  };
  const own: AttentionMethod = {
    async prepare(task) {
      const prepared = await inner.prepare(task), { unobserved: _, ...rest } = prepared;
      return {
        ...rest,
        at: (step, pass) => (q, k, v, layer) => {
          seen.push(`own ${step} ${pass} ${layer}`);
          return prepared.at(step, pass)(q, k, v, layer);
        },
      };
    },
  };
  for (const attention of [tiles, own]) gpu.release(await pipeline.sampleLatents({ ...clip, attention }));
  pipeline.close();
  assertEquals(seen.length, new Set(seen).size);
  assertEquals(seen.filter((name) => name.startsWith("tiles")).length, 2 * 2 * pipeline.headShape.layers);
});

testVariants("what was compiled ahead leaves the clip as it is", async ({ gpu }) => {
  const made = async (ahead: boolean) => {
    const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu }), { compileAhead } = gpu;
    let compiled = 0;
    gpu.compileAhead = async (works) => {
      if (ahead) await compileAhead.call(gpu, works);
      compiled++;
    };
    try {
      const latents = [];
      for (const method of METHODS) {
        const clip = { prompt: "a red circle", width: 32, height: 32, frames: 5, steps: 3, seed: 1 };
        const sampled = await pipeline.sampleLatents({ ...clip, ...method });
        latents.push([...await gpu.read(sampled)]);
        gpu.release(sampled);
      }
      assertEquals(compiled, METHODS.length);
      return latents;
    } finally {
      gpu.compileAhead = compileAhead;
      pipeline.close();
    }
  };
  const whole = await made(false), { used } = gpu.memory;
  assert(whole.flat().every(Number.isFinite));
  assertEquals(await made(true), whole);
  assertEquals(gpu.memory.used, used);
  // Only the operands of these are packed, and weights of the model once.
}, ({ name }) => name === "matrix f16");
