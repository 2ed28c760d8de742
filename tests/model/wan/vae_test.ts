import { TilereelError } from "../../../gpu/common/errors.ts";
import { Gpu } from "../../../gpu/gpu.ts";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import type { Progress } from "../../../model/progress.ts";
import { AutoencoderKLWan } from "../../../model/wan/vae/autoencoder.ts";
import { readVaeConfig } from "../../../model/wan/vae/config.ts";
import { decoderMemory } from "../../../model/wan/vae/decoder.ts";
import { CausalAutoencoder, type ChunkDecoder } from "../../../model/vae/autoencoder.ts";
import { blendWeights, tileSpans } from "../../../model/vae/tiling.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { relativeError } from "../../../gpu/relative_error.ts";
import { assertClose, plainOnly, randn, testVariants } from "../../gpu.ts";

const here = (path: string) => new URL(path, import.meta.url).pathname;
const DEMO = { folder: here("../../../model/demo/vae"), reference: here("../../fixtures/demo_vae.safetensors") };
const TINY = {
  folder: here("../../fixtures/tiny_vae"),
  reference: here("../../fixtures/tiny_vae/reference.safetensors"),
};

const TINY22 = {
  folder: here("../../fixtures/tiny_wan22_vae"),
  reference: here("../../fixtures/tiny_wan22_vae/reference.safetensors"),
};

/**
 * f32 must agree to rounding; f16 operands to what their 11 bits allow through some thirty layers. The largest error
 * measured is 5.4e-3: Winograd's squares with products summed in f16, as NVIDIA GPUs without matrix units run them.
 */
const parityBound = (gpu: Gpu) => gpu.f16 ? 7e-3 : 1e-4;

/** @param contrast of the decoder's pictures: a factor to its last layer */
async function load(gpu: Gpu, { folder }: typeof DEMO, contrast = 1): Promise<AutoencoderKLWan> {
  using source = await openCheckpoint(folder, "diffusion_pytorch_model");
  const read = source.read.bind(source);
  source.read = async (name) => {
    const bytes = await read(name);
    if (contrast !== 1 && name.startsWith("decoder.conv_out.")) {
      const values = new { F16: Float16Array, F32: Float32Array }[source.info(name).dtype as "F16" | "F32"](
        bytes.buffer,
      );
      for (let i = 0; i < values.length; i++) values[i]! *= contrast;
    }
    return bytes;
  };
  return await AutoencoderKLWan.load(gpu, source, await readVaeConfig(`${folder}/config.json`));
}

async function reference({ reference }: typeof DEMO) {
  using source = await openSafetensors(reference);
  const tensors = new Map<string, { values: Float32Array; shape: readonly number[] }>();
  for (const name of source.names()) {
    tensors.set(name, { values: await readFloat32(source, name), shape: source.info(name).shape });
  }
  return (name: string) => tensors.get(name)!;
}

// The demo's, which is larger, is held to diffusers by parity_test.ts, in f32 and f16.
for (const [name, files] of [["a VAE", TINY], ["a VAE with shortcuts", TINY22]] as const) {
  testVariants(`${name} decodes and encodes as diffusers does`, async ({ gpu }) => {
    gpu.placeholder; // made once and never freed
    const before = gpu.memory.used;
    const ref = await reference(files), vae = await load(gpu, files);
    const latents = gpu.upload(ref("latents").values, ref("latents").shape);
    const clip = gpu.upload(ref("clip").values, ref("clip").shape);

    const decoded = await vae.decode(latents);
    assertEquals(decoded.shape, ref("decoded").shape);
    const samples = await gpu.read(decoded);
    assertClose(samples, ref("decoded").values, parityBound(gpu), "decoded");
    const { mean, logvar } = await vae.encode(clip);
    assertEquals(mean.shape, ref("mean").shape);
    assertClose(await gpu.read(mean), ref("mean").values, parityBound(gpu), "mean");
    assertClose(await gpu.read(logvar), ref("logvar").values, parityBound(gpu), "logvar");

    const video = await vae.decodeRgb8(latents);
    assertEquals(video, toRgb8(samples, decoded.shape));

    for (const tensor of [latents, clip, decoded, mean, logvar]) gpu.release(tensor);
    vae[Symbol.dispose]();
    assertEquals(gpu.memory.used, before, "memory is left behind");
  });

  testVariants(`frames of ${name} may go through the stages one by one`, async ({ gpu }) => {
    const ref = await reference(files), vae = await load(gpu, files);
    const latents = gpu.upload(ref("latents").values, ref("latents").shape);
    const clip = gpu.upload(ref("clip").values, ref("clip").shape);
    const decoded = await gpu.read(await vae.decode(latents));
    assertClose(await gpu.read(await vae.decode(latents, { pieceBytes: 1 })), decoded, 1e-6, "decoded");
    const { mean } = await vae.encode(clip), pieces = await vae.encode(clip, { pieceBytes: 1 });
    assertClose(await gpu.read(pieces.mean), await gpu.read(mean), 1e-6, "encoded");
    vae[Symbol.dispose]();
  }, plainOnly);
}

/** [1, 3, frames, height, width] in −1…1 to [frames, height, width, 3] in 0…255. */
function toRgb8(samples: Float32Array, shape: readonly number[]): Uint8Array {
  const pixels = shape[2]! * shape[3]! * shape[4]!;
  return Uint8Array.from(samples, (_, i) => {
    const v = Math.fround(Math.fround(samples[(i % 3) * pixels + Math.floor(i / 3)]! + 1) * 127.5);
    const floor = Math.floor(v);
    return v - floor === 0.5 ? floor + floor % 2 : Math.round(v); // halves to even, as on the GPU
  });
}

testVariants("decoding reports progress in latent frames", async ({ gpu }) => {
  const vae = await load(gpu, TINY);
  const latents = gpu.upload(randn(16 * 3 * 5 * 7, 1, 0.3), [1, 16, 3, 5, 7]);
  const seen: Progress[] = [];
  gpu.release(await vae.decode(latents, { onProgress: (p) => seen.push(p) }));
  assertEquals(seen[0], { stage: "decode", done: 0, total: 3 });
  assertEquals(seen[1], { stage: "decode", done: 1, total: 3 });
  assertEquals(seen.at(-1), { stage: "decode", done: 3, total: 3 });
  gpu.release(latents);
  vae[Symbol.dispose]();
}, plainOnly);

testVariants("normalize and denormalize use the latents' mean and std", async ({ gpu }) => {
  const vae = await load(gpu, DEMO);
  const values = randn(16 * 2 * 3 * 4, 2);
  const latents = gpu.upload(values, [1, 16, 2, 3, 4]);
  const { latentsMean, latentsStd } = vae.config;
  const expected = values.map((v, i) => v * latentsStd[Math.floor(i / 24)]! + latentsMean[Math.floor(i / 24)]!);
  const denormalized = vae.denormalize(latents);
  assertClose(await gpu.read(denormalized), expected, 1e-6);
  assertClose(await gpu.read(vae.normalize(denormalized)), values, 1e-6);
  vae[Symbol.dispose]();
});

/** A clip of planes [planes, height, width], as the blending below sees it: only height and width matter. */
interface Planes {
  readonly data: Float64Array;
  readonly planes: number;
  readonly height: number;
  readonly width: number;
}

/** diffusers' tiled assembly, word by word: every tile is blended in place with the one above, then the left one. */
function blendAsDiffusers(
  tiles: Planes[][],
  stride: number,
  overlap: number,
  height: number,
  width: number,
): Float32Array {
  const { planes } = tiles[0]![0]!;
  const at = (t: Planes, p: number, y: number, x: number) => (p * t.height + y) * t.width + x;
  const result = new Float32Array(planes * height * width);
  for (const [i, row] of tiles.entries()) {
    for (const [j, b] of row.entries()) {
      const above = tiles[i - 1]?.[j], left = row[j - 1];
      if (above) {
        const extent = Math.min(above.height, b.height, overlap);
        for (let p = 0; p < planes; p++) {
          for (let y = 0; y < extent; y++) {
            for (let x = 0; x < b.width; x++) {
              b.data[at(b, p, y, x)] = above.data[at(above, p, above.height - extent + y, x)]! * (1 - y / extent) +
                b.data[at(b, p, y, x)]! * (y / extent);
            }
          }
        }
      }
      if (left) {
        const extent = Math.min(left.width, b.width, overlap);
        for (let p = 0; p < planes; p++) {
          for (let y = 0; y < b.height; y++) {
            for (let x = 0; x < extent; x++) {
              b.data[at(b, p, y, x)] = left.data[at(left, p, y, left.width - extent + x)]! * (1 - x / extent) +
                b.data[at(b, p, y, x)]! * (x / extent);
            }
          }
        }
      }
      for (let p = 0; p < planes; p++) {
        for (let y = 0; y < Math.min(stride, b.height); y++) {
          for (let x = 0; x < Math.min(stride, b.width); x++) {
            result[(p * height + i * stride + y) * width + j * stride + x] = b.data[at(b, p, y, x)]!;
          }
        }
      }
    }
  }
  return result;
}

/** The window of [1, channels, frames, height, width] that a tile covers. */
function crop(
  values: Float32Array,
  shape: readonly number[],
  top: number,
  left: number,
  height: number,
  width: number,
) {
  const [, c, f, H, W] = shape as [number, number, number, number, number];
  const out = new Float32Array(c * f * height * width);
  for (let i = 0; i < out.length; i++) {
    const x = i % width, y = Math.floor(i / width) % height, plane = Math.floor(i / (width * height));
    out[i] = values[(plane * H + top + y) * W + left + x]!;
  }
  return { values: out, shape: [1, c, f, height, width] };
}

testVariants("tiles are put together as diffusers does", async ({ gpu }) => {
  const vae = await load(gpu, TINY, 0.05);
  const shape = [1, 16, 2, 5, 7], latents = randn(16 * 2 * 35, 3, 0.3);
  const tiling = { tiling: true, tileSize: 32, tileStride: 24 };
  const rows = tileSpans(5, 4, 3), columns = tileSpans(7, 4, 3);
  assertEquals([rows.length, columns.length], [2, 3]);

  const tiles: Planes[][] = [];
  for (const row of rows) {
    const line: Planes[] = [];
    for (const column of columns) {
      const part = crop(latents, shape, row.start, column.start, row.length, column.length);
      const data = await gpu.read(await vae.decode(gpu.upload(part.values, part.shape), { tiling: false }));
      // A tile is blended before it is clamped, which this test can only follow if nothing is clamped.
      assert(data.every((v) => Math.abs(v) < 1));
      line.push({ data: Float64Array.from(data), planes: 3 * 5, height: row.length * 8, width: column.length * 8 });
    }
    tiles.push(line);
  }
  const z = gpu.upload(latents, shape);
  const decoded = await vae.decode(z, tiling);
  const samples = await gpu.read(decoded);
  assertClose(samples, blendAsDiffusers(tiles, 24, 8, 40, 56), 1e-6, "decoded");
  assertEquals(await vae.decodeRgb8(z, tiling), toRgb8(samples, decoded.shape));

  const clip = samples, clipShape = decoded.shape;
  const means: Planes[][] = [];
  for (const row of rows) {
    const line: Planes[] = [];
    for (const column of columns) {
      const part = crop(clip, clipShape, row.start * 8, column.start * 8, row.length * 8, column.length * 8);
      const { mean } = await vae.encode(gpu.upload(part.values, part.shape), { tiling: false });
      line.push({
        data: Float64Array.from(await gpu.read(mean)),
        planes: 16 * 2,
        height: row.length,
        width: column.length,
      });
    }
    means.push(line);
  }
  const { mean } = await vae.encode(decoded, tiling);
  assertClose(await gpu.read(mean), blendAsDiffusers(means, 3, 1, 5, 7), 1e-6, "encoded");
  vae[Symbol.dispose]();
}, plainOnly);

testVariants("seams of tiles are blended", async ({ gpu }) => {
  const vae = await load(gpu, DEMO);
  // Latents that change slowly across the picture.
  const [h, w] = [12, 12];
  const latents = Float32Array.from({ length: 16 * h * w }, (_, i) => {
    const c = Math.floor(i / (h * w)), y = Math.floor(i / w) % h, x = i % w;
    return 0.3 * Math.sin(c + x / w) + 0.3 * Math.cos(2 * c + y / h);
  });
  const z = gpu.upload(latents, [1, 16, 1, h, w]);
  const whole = await gpu.read(await vae.decode(z, { tiling: false }));
  const blended = await gpu.read(await vae.decode(z, { tiling: true, tileSize: 64, tileStride: 48 }));
  const abrupt = await gpu.read(await vae.decode(z, { tiling: true, tileSize: 48, tileStride: 48 }));
  assert(relativeError(blended, whole) < 0.2, `${relativeError(blended, whole)}`);
  assert(relativeError(blended, whole) < relativeError(abrupt, whole));
  // How much neighbouring columns differ, summed over rows.
  const step = (clip: Float32Array, x: number) => {
    let sum = 0;
    for (let i = 0; i < clip.length; i += 96) sum += Math.abs(clip[i + x]! - clip[i + x - 1]!);
    return sum;
  };
  assert(step(blended, 48) < step(abrupt, 48) / 4, `${step(blended, 48)}, ${step(abrupt, 48)}`);
  vae[Symbol.dispose]();
}, plainOnly);

testVariants("a network may see a clip whole: it chooses its chunks", async ({ gpu }) => {
  const space = { zDim: 4, outChannels: 3, spatialScale: 1, temporalScale: 1, latentsMean: [], latentsStd: [] };
  const seen: number[] = [];
  const decoder: ChunkDecoder = {
    memory: () => ({ largest: 0, held: 0 }),
    forward(_, latents, emit) {
      seen.push(latents.dim(0));
      emit(latents);
    },
  };
  const whole = (count: number) => [{ latentStart: 0, latentCount: count, start: 0, count }];
  const clips: Float32Array[] = [];
  for (const half of [decoder, { ...decoder, chunks: whole }]) {
    const parts = { encoder: undefined, decoder: half, [Symbol.dispose]() {} };
    using vae = new CausalAutoencoder(gpu, space, parts);
    const clip = await vae.decode(gpu.upload(randn(4 * 3 * 4, 1).map((v) => v / 9), [1, 4, 3, 2, 2]));
    clips.push(await gpu.read(clip));
  }
  assertEquals(seen, [1, 1, 1, 3]);
  assertEquals(clips[1], clips[0]);
}, plainOnly);

Deno.test("blend weights add up to 1 at every pixel", () => {
  for (
    const [height, width, size, stride] of [[104, 60, 32, 24], [33, 7, 8, 5], [25, 26, 8, 8], [9, 49, 16, 12]] as const
  ) {
    const rows = tileSpans(height, size, stride), columns = tileSpans(width, size, stride);
    const sum = new Float64Array(height * width);
    for (const [i, row] of rows.entries()) {
      for (const [j, column] of columns.entries()) {
        blendWeights(rows, columns, i, j, stride, size - stride).forEach((weight, at) => {
          assert(weight >= 0 && weight <= 1);
          sum[(row.start + Math.floor(at / column.length)) * width + column.start + at % column.length]! += weight;
        });
      }
    }
    for (const total of sum) assert(Math.abs(total - 1) < 1e-6, `${height}x${width}: ${total}`);
  }
});

testVariants("tiling is chosen by the memory there is", async ({ gpu }) => {
  const latents = randn(16 * 5 * 7, 4, 0.3);
  const tilesWith = async (memoryLimit: number) => {
    const limited = new Gpu(gpu.device, { ...gpu.settings, memoryLimit });
    const vae = await load(limited, TINY);
    const z = limited.upload(latents, [1, 16, 1, 5, 7]);
    let tiles = 0;
    await vae.decode(z, { tileSize: 32, tileStride: 24, onProgress: ({ total }) => tiles = total });
    return { tiles, used: limited.memory.used };
  };
  const ample = await tilesWith(Infinity);
  assertEquals(ample.tiles, 1);
  const config = await readVaeConfig(`${TINY.folder}/config.json`);
  const needed = decoderMemory(gpu, config, { latentPixels: 35, frames: 1, pieceBytes: 0 }).held;
  assertEquals((await tilesWith(ample.used + 2 * needed)).tiles, 1);
  assertEquals((await tilesWith(ample.used + 0.9 * needed)).tiles, 6);
}, plainOnly);

testVariants("a clip that is no multiple of 8 is refused in words", async ({ gpu }) => {
  const vae = await load(gpu, TINY);
  await assertRejects(
    () => vae.encode(gpu.tensor([1, 3, 1, 20, 16])),
    TilereelError,
    "the clip is 16x20, but the VAE encodes multiples of 8 only: crop or resize it",
  );
  vae[Symbol.dispose]();
});

testVariants("loading one half takes only its weights", async ({ gpu }) => {
  const config = await readVaeConfig(`${TINY.folder}/config.json`);
  using source = await openCheckpoint(TINY.folder, "diffusion_pytorch_model");
  const seen: Progress[] = [], before = gpu.memory.used;
  const vae = await AutoencoderKLWan.load(gpu, source, config, (p) => seen.push(p), ["decoder"]);
  const names = source.names().filter((name) => name.startsWith("decoder.") || name.startsWith("post_quant_conv."));
  assertEquals(seen[0], { stage: "load vae", done: 0, total: names.length });
  assertEquals(seen.at(-1), { stage: "load vae", done: names.length, total: names.length });
  await assertRejects(() => vae.encode(gpu.tensor([1, 3, 1, 8, 8])), Error, "encoder was not loaded");
  vae[Symbol.dispose]();
  assert(gpu.memory.used - before < 4096);
});

testVariants("a config of another size is refused in words", async ({ gpu }) => {
  const config = { ...await readVaeConfig(`${TINY.folder}/config.json`), baseDim: 16, decoderBaseDim: 16 };
  using source = await openCheckpoint(TINY.folder, "diffusion_pytorch_model");
  const before = gpu.memory.used;
  await assertRejects(
    () => AutoencoderKLWan.load(gpu, source, config),
    TilereelError,
    "has the shape",
  );
  assertEquals(gpu.memory.used, before);
});
