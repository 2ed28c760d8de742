import { writeRandomCheckpoint } from "../../bench/full_size/checkpoint.ts";
import { countMemory, countModel, type MemoryCase } from "../../bench/memory/count.ts";
import { STAGES } from "../../model/estimate/clip_memory.ts";
import { drySource } from "../../bench/full_size/made_source.ts";
import { SHAPES } from "../../bench/shapes.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { dryGpu, type DryGpuOptions, NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import { Gpu } from "../../gpu/gpu.ts";
import { elementCount } from "../../model/checkpoint/dtype.ts";
import { VideoPipeline } from "../../model/pipeline.ts";
import { vedaAttention } from "../../model/veda/methods.ts";
import { singleBranch } from "../../model/vorta/methods.ts";
import { defaultSettings } from "../../model/vorta/settings.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { randn, testVariants } from "../gpu.ts";
import { inTempDir } from "../process.ts";

const SMALL = { model: "1.3B", width: 832, height: 480, frames: 81 } as const;
/** As a GPU over Dawn has them. */
const MATRIX = { precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS } as const;
const LARGE = { model: "14B", width: 1280, height: 720, frames: 81 } as const;
const METHODS = {
  full: undefined,
  sliding: singleBranch("sliding", defaultSettings),
  coreset: singleBranch("coreset", defaultSettings),
  veda: vedaAttention({ keep: 0.1 }),
};

testVariants("memory: a dry device counts what a real one holds", async ({ gpu }) => {
  await inTempDir(async (dir) => {
    await writeRandomCheckpoint(dir, {
      transformer: { num_attention_heads: 2, attention_head_dim: 32, num_layers: 3, ffn_dim: 96, text_dim: 48 },
      vae: { base_dim: 8, num_res_blocks: 1 },
    });
    const { precision, kernels, description: { matrixUnits, limits } } = gpu.settings;
    const real = new Gpu(gpu.device, gpu.settings);
    const dry = dryGpu({ precision, kernels, limits, ...matrixUnits && { matrixUnits } });
    for (const weights of ["resident", "stream"] as const) {
      const uses = [];
      for (const on of [real, dry]) {
        const pipeline = await VideoPipeline.load(dir, { gpu: on, weights });
        await pipeline.generate({
          prompt: "",
          width: 48,
          height: 32,
          frames: 9,
          steps: 3,
          guidance: 2,
          embeddings: { positive: randn(5 * 48, 1), negative: randn(5 * 48, 2) },
        });
        const loaded = on.memory;
        pipeline.close();
        uses.push([loaded, on.memory]);
      }
      assertEquals(uses[1], uses[0], weights);
    }
  });
});

/** Counts a case and checks that every stage keeps to `limit`, without tiles. */
async function fits(one: MemoryCase, limit: number): Promise<void> {
  const { peaks, tiles } = await countMemory(one);
  for (const stage of STAGES) assert(peaks[stage].held <= limit, `${stage}: ${peaks[stage].held} of ${limit} bytes`);
  assertEquals(tiles, 1);
}

Deno.test("memory: 1.3B renders 832x480, 81 frames within 8 GB, resident and streamed", async () => {
  await fits(SMALL, 8e9);
  await fits({ ...SMALL, device: { memoryLimit: 8e9 } }, 8e9);
  await fits({ ...SMALL, weights: "stream" }, 8e9);
  await fits({ ...SMALL, device: MATRIX }, 8e9);
  assertEquals((await countMemory({ ...SMALL, frames: 5 })).place, "resident");
});

Deno.test("memory: F32 files take what bf16 files take once they are cast, and twice that in f32", async () => {
  const loaded = async (one: Partial<MemoryCase>) =>
    (await countMemory({ ...SMALL, frames: 5, ...one })).peaks.load.held;
  const bf16 = await loaded({ device: MATRIX }), cast = await loaded({ stored: "F32", device: MATRIX });
  assert(cast >= bf16 && cast <= bf16 + 64 * 2 ** 20, `${cast} and ${bf16}`);
  const exact = await loaded({ stored: "F32", weights: "resident" });
  assert(exact > 1.8 * bf16, `${exact} and ${bf16}`);
  // There the VAE's convolutions, a tenth of a gigabyte in f16, are f32.
  const inBf16 = await loaded({ stored: "F32", weights: "resident", weightDtype: "bf16" });
  assert(inBf16 > cast && inBf16 < cast + 0.15e9, `${inBf16} and ${cast}`);
});

Deno.test("memory: 14B renders 1280x720, 81 frames on a card of 24 GB, by streaming", async () => {
  const one = { ...LARGE, device: { memoryLimit: 24e9 } };
  assertEquals((await countMemory(one)).place, "stream");
  await fits({ ...one, weights: "stream", device: { memoryLimit: 24e9 } }, 24e9);
  await fits({ ...one, weights: "stream", device: { precision: "f16", memoryLimit: 24e9 } }, 24e9);
  await fits({ ...one, weights: "stream", device: { ...MATRIX, memoryLimit: 24e9 } }, 24e9);
});

Deno.test("memory: 14B in int8 renders 1280x720, 81 frames on a card of 24 GB, without streaming", async () => {
  const { full, coreset, veda } = METHODS, dots = { precision: "f16", subgroup: 32 } as const;
  // The driver and the desktop have the rest. Attention in int8 without matrix units takes v in f32.
  for (
    const [device, limit, methods] of [
      [MATRIX, 0.92 * 24e9, { full, coreset, veda }],
      [dots, 23e9, { veda }],
    ] as const
  ) {
    for (const [name, attention] of Object.entries(methods)) {
      const one = { ...LARGE, stored: "F32", ...attention && { attention } } as const, int8 = { ...device, int8: true };
      const { place, peaks } = await countMemory({ ...one, device: { ...int8, memoryLimit: limit } });
      assertEquals(place, "resident", name);
      for (const stage of STAGES) assert(peaks[stage].held <= limit, `${name}, ${stage}: ${peaks[stage].held}`);
      // Without a limit, too: within it, no buffer is given back and made again in each block.
      const free = await countMemory({ ...one, weights: "resident", device: int8 });
      assert(free.peaks.denoise.held <= limit, `${name}: ${free.peaks.denoise.held} without a limit`);
    }
  }
});

Deno.test("memory: cards of 6, 12 and 16 GB render 832x480, 81 frames with 1.3B, 14B and A14B", async () => {
  const budgets = { "1.3B": 6e9, "14B": 12e9, "I2V A14B": 16e9 } as const;
  for (const [model, memoryLimit] of Object.entries(budgets)) {
    for (const device of [{}, MATRIX, { ...MATRIX, int8: true }]) {
      // In f32, 1.3B is decoded in tiles there.
      const isExact = !("matrixUnits" in device) && model === "1.3B";
      const one = {
        ...SMALL,
        model: model as keyof typeof budgets,
        stored: "F32",
        device: { ...device, memoryLimit },
      } as const;
      const { peaks, tiles } = await countMemory(one);
      for (const stage of STAGES) assert(peaks[stage].held <= memoryLimit, `${model}, ${stage}: ${peaks[stage].held}`);
      assertEquals(tiles > 1, isExact, model);
    }
  }
});

Deno.test("memory: 14B in Q4_K renders 832x480, 81 frames on a card of 12 GB", async () => {
  const model = SHAPES["14b"].model((tensors, dtype) => {
    const source = drySource(tensors, dtype), { info } = source;
    return {
      ...source,
      info: (name) => {
        const stored = info(name), isLayer = /^blocks\.\d+\..*\.weight$/.test(name) && stored.shape.length === 2;
        return isLayer ? { ...stored, dtype: "Q4_K", bytes: elementCount(stored.shape) / 256 * 144 } : stored;
      },
    };
  });
  const clip = { width: 832, height: 480, frames: 81 };
  const { peaks } = await countModel(model, { ...clip, device: { ...MATRIX, memoryLimit: 12e9 } });
  for (const stage of STAGES) assert(peaks[stage].held <= 12e9, `${stage}: ${peaks[stage].held}`);
});

Deno.test("memory: denoising takes no more than the choice of weights counts on, and not far less", async () => {
  const model = SHAPES["1.3b"].model(drySource);
  const devices: Readonly<Record<string, DryGpuOptions>> = {
    ...{ f32: {}, f16: { precision: "f16" }, int8: { precision: "f16", int8: true } },
    "int8, subgroups": { precision: "f16", int8: true, subgroup: 32 },
    ...{ "matrix units": MATRIX, "matrix units, int8": { ...MATRIX, int8: true } },
  };
  for (const [kind, device] of Object.entries(devices)) {
    const estimate = model.denoisingBytes(dryGpu(device), SMALL);
    for (const [name, attention] of Object.entries(METHODS)) {
      const { peaks: { load, denoise } } = await countMemory({
        ...SMALL,
        device,
        weights: "resident",
        ...attention && { attention },
      });
      const taken = denoise.held - load.held;
      assert(taken <= estimate && taken > estimate / 2, `${kind}, ${name}: ${taken} of ${estimate} bytes`);
    }
  }
});

Deno.test("memory: an adapter whose buffers are too small says which tensor does not fit", async () => {
  const device = { limits: { maxStorageBufferBindingSize: 128 * 2 ** 20 } };
  await assertRejects(
    () => countMemory({ ...SMALL, device }),
    TilereelError,
    "a tensor of [1,32760,1536] needs one buffer of 192 MiB, this adapter allows 128 MiB",
  );
  // Weights are read in parts; the first tensor that is not is of the clip.
  await assertRejects(() => countMemory({ ...LARGE, device }), TilereelError, "a tensor of [1,75600,5120] needs one");
});

Deno.test("memory: a picture too large for the limit is decoded in tiles, within it", async () => {
  const { peaks, tiles } = await countMemory({ ...SMALL, device: { memoryLimit: 4e9 } });
  assert(tiles > 1);
  for (const stage of STAGES) assert(peaks[stage].held <= 4e9, `${stage}: ${peaks[stage].held}`);
});
