import { drySource } from "../../../bench/full_size/made_source.ts";
import { countModel, type ModelCase } from "../../../bench/memory/count.ts";
import { STAGES } from "../../../model/estimate/clip_memory.ts";
import { SHAPES } from "../../../bench/shapes.ts";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../../gpu/device/dry.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { combine } from "../../../gpu/ops/combine.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { FamilyModel, VideoVae } from "../../../model/family.ts";
import { vedaAttention } from "../../../model/veda/methods.ts";
import { singleBranch } from "../../../model/vorta/methods.ts";
import { assert, assertEquals } from "@std/assert";

const { size, vorta: settings, model: make } = SHAPES.hunyuan;
const DEVICES = {
  f32: {},
  f16: { precision: "f16" },
  "matrix units": { precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS },
} as const;
const INT8 = { precision: "f16", int8: true, matrixUnits: NVIDIA_MATRIX_UNITS } as const;

/** HunyuanVideo without its autoencoder, which takes long to count: what is counted comes before it. */
function model(): FamilyModel {
  const same = (gpu: Gpu) => (latents: Tensor) => combine(gpu, [[1, latents]]);
  const loadVae = (gpu: Gpu): Promise<VideoVae> =>
    Promise.resolve({
      ...{ denormalize: same(gpu), normalize: same(gpu), fitsWhole: () => true },
      decodeRgb8: () => Promise.resolve(new Uint8Array()),
      encode: () => Promise.reject(new Error("nothing is encoded")),
      [Symbol.dispose]() {},
    });
  return Object.assign(make(drySource), { loadVae });
}

const count = (one: Partial<ModelCase>) => countModel(model(), { ...size, guidance: 6, ...one });

Deno.test("HunyuanVideo: denoising takes no more than the choice of weights counts on, and not far less", async () => {
  const methods = {
    full: undefined,
    sliding: singleBranch("sliding", () => settings),
    coreset: singleBranch("coreset", () => settings),
    veda: vedaAttention({ keep: 0.1 }),
  };
  for (const [kind, device] of Object.entries({ ...DEVICES, "matrix units, int8": INT8 })) {
    const estimate = model().denoisingBytes(dryGpu(device), size);
    for (const [name, attention] of Object.entries(methods)) {
      const { peaks: { load, denoise } } = await count({
        ...{ device, weights: "resident" },
        ...attention && { attention },
      });
      const taken = denoise.held - load.held;
      assert(taken <= estimate && taken > estimate / 2, `${kind}, ${name}: ${taken} of ${estimate} bytes`);
    }
  }
});

Deno.test("HunyuanVideo: denoises 1280x720, 117 frames on a card of 24 GB, by streaming", async () => {
  for (const device of Object.values(DEVICES)) {
    const { place, peaks } = await count({ device: { ...device, memoryLimit: 24e9 } });
    assertEquals(place, "stream");
    assert(peaks.denoise.held <= 24e9, `${peaks.denoise.held} bytes`);
  }
});

Deno.test("HunyuanVideo: in int8, 1280x720, 117 frames is denoised within 24 GB, without streaming", async () => {
  for (const attention of [undefined, vedaAttention({ keep: 0.1 })]) {
    const method = attention && { attention },
      { place } = await count({ ...method, device: { ...INT8, memoryLimit: 24e9 } });
    assertEquals(place, "resident");
    // No more without a limit.
    const { peaks } = await count({ ...method, weights: "resident", device: INT8 });
    assert(peaks.denoise.held <= 23.1e9, `${peaks.denoise.held} bytes`);
  }
});

Deno.test("HunyuanVideo: 1280x720, 117 frames is decoded on a card of 24 GB", async () => {
  const { peaks, tiles } = await countModel(make(drySource), { ...size, device: { memoryLimit: 24e9 } });
  for (const stage of STAGES) assert(peaks[stage].held <= 24e9, `${stage}: ${peaks[stage].held} bytes`);
  assert(tiles > 1);
});
