/** The kernels of a clip's steps are compiled together, before the first step is recorded. */
import { assert, assertEquals } from "@std/assert";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import { Gpu } from "../../gpu/gpu.ts";
import type { AttentionMethod } from "../../model/attention/method.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { type GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { SomeHeadsMethod } from "../../model/attention/head_groups.ts";
import { vedaAttention, vedaHeads } from "../../model/veda/methods.ts";
import { routedAttention } from "../../model/vorta/methods.ts";
import { loadRouter } from "../../model/vorta/router_file.ts";
import { defaultSettings } from "../../model/vorta/settings.ts";
import { testVariants } from "../gpu.ts";

const METHODS: readonly Partial<GenerateOptions>[] = [{}, { attention: vedaAttention({ keep: 0.5, tileTokens: 8 }) }];

Deno.test("once a prompt is encoded, no kernel is compiled alone, and the decoder's while steps run", async () => {
  const gpu = dryGpu({ precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS, subgroup: 32 });
  const { createComputePipeline, createComputePipelineAsync } = gpu.device;
  const alone: string[] = [], together: [stage: string, kernel: string][] = [];
  let now = "";
  gpu.device.createComputePipeline = (descriptor) => {
    alone.push(descriptor.label!);
    return createComputePipeline(descriptor);
  };
  gpu.device.createComputePipelineAsync = (descriptor) => {
    together.push([now, descriptor.label!]);
    return createComputePipelineAsync(descriptor);
  };
  const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu });
  for (const method of METHODS) {
    await pipeline.generate({
      ...{ ...method, prompt: "a red circle", width: 512, height: 512, frames: 61, steps: 6 },
      onProgress: ({ stage, done }) => {
        now = stage;
        if (stage === "denoise" && done === 0) alone.splice(0);
      },
    });
    assertEquals(alone, []);
  }
  pipeline.close();
  const stagesOf = (pattern: RegExp) =>
    new Set(together.filter(([, kernel]) => pattern.test(kernel)).map(([stage]) => stage));
  assertEquals(stagesOf(/^conv3d/), new Set(["denoise"]));
  assertEquals(stagesOf(/bias/), new Set(["encode prompt"]));
});

Deno.test("on Dawn, whose devices have two threads that compile, the thread that waits for a step's kernels compiles, too", async () => {
  const dry = dryGpu({ precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS, subgroup: 32 }), { settings } = dry;
  const gpu = new Gpu(dry.device, { ...settings, description: { ...settings.description, source: "dawn" } });
  const { createComputePipeline, createComputePipelineAsync } = gpu.device,
    compiled: [how: string, kernel: string][] = [];
  let stage = "";
  gpu.device.createComputePipeline = (descriptor) => {
    compiled.push([`${stage}, here`, descriptor.label!]);
    return createComputePipeline(descriptor);
  };
  gpu.device.createComputePipelineAsync = (descriptor) => {
    compiled.push([`${stage}, there`, descriptor.label!]);
    return createComputePipelineAsync(descriptor);
  };
  const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu });
  await pipeline.generate({
    ...{ prompt: "a red circle", width: 512, height: 512, frames: 61, steps: 6 },
    onProgress: (progress) => ({ stage } = progress),
  });
  pipeline.close();
  const kernelsOf = (how: string) => compiled.filter(([found]) => found === how).map(([, kernel]) => kernel);
  const [here, there] = [kernelsOf("denoise, here"), kernelsOf("denoise, there")];
  const large = (kernels: readonly string[]) =>
    kernels.filter((kernel) => /^(gemm_panels|attention_matrix)/.test(kernel));
  // Those of the decoder are compiled while steps run, which this thread records.
  assert(here.length > 0 && !here.some((kernel) => kernel.startsWith("conv3d")), here.join());
  assert(there.some((kernel) => kernel.startsWith("conv3d")));
  // A third of what takes longest.
  assert(
    large(here).length >= 1 && large(there).length >= 2 * large(here).length - 1,
    `${large(here)} ${large(there)}`,
  );
});

Deno.test("to compile the kernels of text encoder and decoder takes no memory", async () => {
  const peaks = await Promise.all([true, false].map(async (ahead) => {
    const gpu = dryGpu({ precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS, subgroup: 32 });
    const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu }), { compileAhead } = gpu;
    gpu.compileAhead = async (works, memory, waits) => {
      if (ahead || memory !== "none") await compileAhead.call(gpu, works, memory, waits);
    };
    let most = 0;
    await pipeline.generate({
      ...{ prompt: "a red circle", width: 512, height: 512, frames: 61, steps: 3 },
      onProgress: ({ stage }) => {
        if (stage === "denoise") most = Math.max(most, gpu.memory.peak);
      },
    });
    pipeline.close();
    return [most, gpu.memory.used];
  }));
  assertEquals(peaks[0], peaks[1]);
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
  // VORTA whose full heads are somebody's own.
  const { router } = await loadRouter(`${embeddedModelDir()}/router.safetensors`), heads = vedaHeads({ keep: 0.5 });
  const full: SomeHeadsMethod = {
    async prepare(task) {
      const { unobserved: _, ...rest } = await heads.prepare(task);
      return {
        ...rest,
        at: (step, pass, some) => {
          const attend = rest.at(step, pass, some);
          return (q, k, v, layer, ...more) => {
            seen.push(`heads ${step} ${pass} ${layer}`);
            return attend(q, k, v, layer, ...more);
          };
        },
      };
    },
  };
  const routed = routedAttention({ router, settings: defaultSettings, full });
  for (const attention of [tiles, own, routed]) gpu.release(await pipeline.sampleLatents({ ...clip, attention }));
  pipeline.close();
  assertEquals(seen.length, new Set(seen).size);
  assertEquals(seen.filter((name) => name.startsWith("tiles")).length, 2 * 2 * pipeline.headShape.layers);
});

testVariants("what was compiled ahead leaves the clip as it is", async ({ gpu }) => {
  const made = async (ahead: boolean) => {
    // Native Deno, which gains nothing, does it here, too.
    Object.defineProperty(gpu, "compilesAhead", { value: ahead, configurable: true });
    const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu }), { compileAhead } = gpu;
    const memories: string[] = [];
    gpu.compileAhead = async (works, memory = "taken", waits) => {
      memories.push(memory);
      await compileAhead.call(gpu, works, memory, waits);
    };
    try {
      const clip = { prompt: "a red circle", width: 32, height: 16, frames: 5, steps: 2, seed: 1 };
      const { data } = await pipeline.generate({ ...clip, ...METHODS[1] });
      // Those of the text encoder, the steps and the decoder.
      assertEquals(memories.join(), ahead ? "none,taken,none" : "");
      return data;
    } finally {
      gpu.compileAhead = compileAhead;
      Reflect.deleteProperty(gpu, "compilesAhead");
      pipeline.close();
    }
  };
  const ahead = await made(true), { used } = gpu.memory;
  assert(new Set(ahead).size > 10);
  assertEquals(await made(false), ahead);
  assertEquals(gpu.memory.used, used);
}, ({ name }) => name === "tiled" || name === "matrix f16");
