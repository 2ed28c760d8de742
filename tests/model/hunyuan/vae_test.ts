import { hunyuanVaeTensors } from "../../../bench/full_size/hunyuan_vae_tensors.ts";
import { drySource } from "../../../bench/full_size/made_source.ts";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../../gpu/device/dry.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { Gpu } from "../../../gpu/gpu.ts";
import { Config } from "../../../model/checkpoint/json.ts";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { AutoencoderKLHunyuanVideo } from "../../../model/hunyuan/vae/autoencoder.ts";
import { readVaeConfig, vaeConfig } from "../../../model/hunyuan/vae/config.ts";
import type { Progress } from "../../../model/progress.ts";
import { timeTiles } from "../../../model/vae/chunks.ts";
import { tileSpans } from "../../../model/vae/tiling.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { assertClose, plainOnly, randn, testVariants } from "../../gpu.ts";

const FOLDER = new URL("../../fixtures/tiny_hunyuan_vae", import.meta.url).pathname;

/** @param contrast of the decoder's pictures: a factor to its last layer */
async function load(gpu: Gpu, contrast = 1): Promise<AutoencoderKLHunyuanVideo> {
  using source = await openCheckpoint(FOLDER, "diffusion_pytorch_model");
  const read = source.read.bind(source);
  source.read = async (name) => {
    const bytes = await read(name);
    if (name.startsWith("decoder.conv_out.")) {
      const values = new Float32Array(bytes.buffer);
      for (let i = 0; i < values.length; i++) values[i]! *= contrast;
    }
    return bytes;
  };
  return await AutoencoderKLHunyuanVideo.load(gpu, source, await readVaeConfig(`${FOLDER}/config.json`));
}

/** f32 must agree to rounding; f16 operands, summed in f32, to what their 11 bits allow through some thirty layers. */
const parityBound = (gpu: Gpu) => gpu.f16 ? 5e-3 : 2e-5;

testVariants("HunyuanVideo's VAE decodes and encodes as diffusers does", async ({ gpu }) => {
  gpu.placeholder; // made once and never freed
  const before = gpu.memory.used;
  using source = await openSafetensors(`${FOLDER}/reference.safetensors`);
  const reference = (name: string) => readFloat32(source, name);
  const upload = async (name: string) => gpu.upload(await reference(name), source.info(name).shape);
  const vae = await load(gpu), latents = await upload("latents"), clip = await upload("clip");

  const decoded = await vae.decode(latents), samples = await gpu.read(decoded);
  assertEquals(decoded.shape, source.info("decoded").shape);
  // diffusers clamps in its pipeline, not in the autoencoder.
  const clamped = (await reference("decoded")).map((v) => Math.min(Math.max(v, -1), 1));
  assertClose(samples, clamped, parityBound(gpu), "decoded");
  const { mean, logvar } = await vae.encode(clip);
  assertEquals(mean.shape, source.info("mean").shape);
  assertClose(await gpu.read(mean), await reference("mean"), parityBound(gpu), "mean");
  assertClose(await gpu.read(logvar), await reference("logvar"), parityBound(gpu), "logvar");

  for (const tensor of [latents, clip, decoded, mean, logvar]) gpu.release(tensor);
  vae[Symbol.dispose]();
  assertEquals(gpu.memory.used, before, "memory is left behind");
});

/** Row-major numbers in float64. */
interface Numbers {
  readonly data: Float64Array;
  readonly shape: readonly number[];
}

/** Sizes around an axis: of what comes before it, of the axis, of what comes after it. */
function around({ shape }: Numbers, axis: number): [number, number, number] {
  const product = (sizes: readonly number[]) => sizes.reduce((a, b) => a * b, 1);
  return [product(shape.slice(0, axis)), shape[axis]!, product(shape.slice(axis + 1))];
}

/** x[start : start + count] along an axis, cut off at its end */
function slice(x: Numbers, axis: number, start: number, count: number): Numbers {
  const [outer, length, inner] = around(x, axis), kept = Math.max(0, Math.min(count, length - start));
  const data = new Float64Array(outer * kept * inner);
  for (let o = 0; o < outer; o++) {
    const from = (o * length + start) * inner;
    data.set(x.data.subarray(from, from + kept * inner), o * kept * inner);
  }
  return { data, shape: x.shape.with(axis, kept) };
}

function concatenate(parts: readonly Numbers[], axis: number): Numbers {
  const length = parts.reduce((sum, { shape }) => sum + shape[axis]!, 0), [outer, , inner] = around(parts[0]!, axis);
  const data = new Float64Array(outer * length * inner);
  let at = 0;
  for (const part of parts) {
    const size = part.shape[axis]! * inner;
    for (let o = 0; o < outer; o++) data.set(part.data.subarray(o * size, (o + 1) * size), o * length * inner + at);
    at += size;
  }
  return { data, shape: parts[0]!.shape.with(axis, length) };
}

/** diffusers' `blend_t`, `blend_v` and `blend_h`: the end of `a` passes into the beginning of `b`, which is changed. */
function blend(a: Numbers, b: Numbers, axis: number, most: number): void {
  const [outer, lengthA, inner] = around(a, axis), [, lengthB] = around(b, axis);
  const extent = Math.min(lengthA, lengthB, most);
  for (let o = 0; o < outer; o++) {
    for (let x = 0; x < extent; x++) {
      for (let i = 0; i < inner; i++) {
        const at = (o * lengthB + x) * inner + i;
        const before = a.data[(o * lengthA + lengthA - extent + x) * inner + i]!;
        b.data[at] = before * (1 - x / extent) + b.data[at]! * (x / extent);
      }
    }
  }
}

/** Tile, stride and overlap along one axis of the result. */
interface Cut {
  readonly stride: number;
  readonly overlap: number;
}

/** diffusers' `tiled_decode` and `tiled_encode`, of tiles [channels, frames, height, width] in rows. */
function joinSpace(rows: readonly (readonly Numbers[])[], { stride, overlap }: Cut): Numbers {
  return concatenate(
    rows.map((row, i) =>
      concatenate(
        row.map((tile, j) => {
          if (i > 0) blend(rows[i - 1]![j]!, tile, 2, overlap);
          if (j > 0) blend(row[j - 1]!, tile, 3, overlap);
          return slice(slice(tile, 2, 0, stride), 3, 0, stride);
        }),
        3,
      )
    ),
    2,
  );
}

/** diffusers' `_temporal_tiled_decode` and `_temporal_tiled_encode`. */
function joinTime(tiles: readonly Numbers[], { stride, overlap }: Cut): Numbers {
  const kept = tiles.map((tile, i) => i === 0 ? tile : slice(tile, 1, 1, Infinity));
  return concatenate(
    kept.map((tile, i) => {
      if (i === 0) return slice(tile, 1, 0, stride + 1);
      blend(kept[i - 1]!, tile, 1, overlap);
      return slice(tile, 1, 0, stride);
    }),
    1,
  );
}

testVariants("tiles in space and time are put together as diffusers does", async ({ gpu }) => {
  const vae = await load(gpu, 0.05), tiling = { tiling: true, tileSize: 32, tileStride: 24 };
  const shape = [16, 8, 5, 7], latents = randn(16 * 8 * 35, 3, 0.7);
  const rows = tileSpans(5, 4, 3), columns = tileSpans(7, 4, 3);
  assertEquals([rows.length, columns.length], [2, 3]);

  /** Every tile by itself: sizes are in latents, `scale` and `timeScale` are of what is cut. */
  const joined = async (
    x: Numbers,
    [scale, timeScale]: readonly [number, number],
    run: (part: Numbers) => Promise<Numbers>,
    cuts: readonly [space: Cut, time: Cut],
  ) => {
    const tiles: Numbers[] = [];
    // diffusers also makes a tile of the last frame, which is left out of the result.
    for (const start of [0, 3, 6]) {
      const frames = slice(x, 1, start * timeScale, 4 * timeScale + 1), lines: Numbers[][] = [];
      for (const row of rows) {
        const line: Numbers[] = [], band = slice(frames, 2, row.start * scale, 4 * scale);
        for (const column of columns) line.push(await run(slice(band, 3, column.start * scale, 4 * scale)));
        lines.push(line);
      }
      tiles.push(joinSpace(lines, cuts[0]));
    }
    return joinTime(tiles, cuts[1]);
  };

  const z = gpu.upload(latents, [1, ...shape]);
  const decoded = await vae.decode(z, tiling), samples = await gpu.read(decoded);
  assertEquals(decoded.shape, [1, 3, 29, 40, 56]);
  const whole = (data: ArrayLike<number>, shape: readonly number[]) => ({ data: Float64Array.from(data), shape });
  const upload = ({ data, shape }: Numbers) => gpu.upload(Float32Array.from(data), [1, ...shape]);
  const read = async (tensor: Awaited<ReturnType<typeof vae.decode>>) => {
    const values = await gpu.read(tensor);
    gpu.release(tensor);
    return whole(values, tensor.shape.slice(1));
  };
  const clip = await joined(whole(latents, shape), [1, 1], async (part) => {
    const out = await read(await vae.decode(upload(part), { tiling: false }));
    // A tile is blended before it is clamped, which this test can only follow if nothing is clamped.
    assert(out.data.every((v) => Math.abs(v) < 1));
    return out;
  }, [{ stride: 24, overlap: 8 }, { stride: 12, overlap: 4 }]);
  assertEquals(clip.shape, [3, 29, 40, 56]);
  assertClose(samples, clip.data, 1e-6, "decoded");
  assertEquals(await vae.decodeRgb8(z, tiling), toRgb8(samples, decoded.shape));

  const moments = await joined(whole(samples, clip.shape), [8, 4], async (part) => {
    const { mean, logvar } = await vae.encode(upload(part), { tiling: false });
    return concatenate([await read(mean), await read(logvar)], 0);
  }, [{ stride: 3, overlap: 1 }, { stride: 3, overlap: 1 }]);
  const { mean, logvar } = await vae.encode(decoded, tiling);
  assertEquals(mean.shape, [1, ...shape]);
  assertClose(await gpu.read(mean), slice(moments, 0, 0, 16).data, 1e-6, "mean");
  assertClose(await gpu.read(logvar), slice(moments, 0, 16, 16).data, 1e-6, "logvar");
  vae[Symbol.dispose]();
}, plainOnly);

/** [1, 3, frames, height, width] in −1…1 to [frames, height, width, 3] in 0…255. */
function toRgb8(samples: Float32Array, shape: readonly number[]): Uint8Array {
  const pixels = shape[2]! * shape[3]! * shape[4]!;
  return Uint8Array.from(samples, (_, i) => {
    const v = Math.fround(Math.fround(samples[(i % 3) * pixels + Math.floor(i / 3)]! + 1) * 127.5);
    const floor = Math.floor(v);
    return v - floor === 0.5 ? floor + floor % 2 : Math.round(v); // halves to even, as on the GPU
  });
}

Deno.test("tiles in time cover each frame once, in frames and in latents", () => {
  for (let latentFrames = 1; latentFrames <= 33; latentFrames++) {
    const tiles = timeTiles(latentFrames, 4, 3, 4);
    assertEquals(tiles.length === 1, latentFrames <= 4);
    let done = 0;
    for (const scale of [1, 4]) {
      const sums = new Float64Array((latentFrames - 1) * scale + 1);
      for (const { latentStart, latentCount, start, count, tile } of tiles) {
        assertEquals([start, count], [latentStart * 4, latentCount * 4 - 3]);
        const weights = tile!.weights(scale);
        assertEquals(weights.length, (latentCount - 1) * scale + 1 - tile!.skip);
        weights.forEach((weight, i) => sums[latentStart * scale + tile!.skip + i]! += weight);
        if (scale === 4) {
          assertEquals(start + tile!.skip, done);
          done += tile!.stride;
        }
      }
      assert(sums.every((sum) => Math.abs(sum - 1) < 1e-6), `${latentFrames}`);
    }
    assertEquals(done, 4 * latentFrames - 3);
  }
});

testVariants("tiles are made smaller until they fit the memory", async ({ gpu }) => {
  const latents = randn(16 * 2 * 12 * 14, 4, 0.3);
  const tilesWith = async (memoryLimit: number) => {
    const limited = new Gpu(gpu.device, { ...gpu.settings, memoryLimit });
    using vae = await load(limited);
    const z = limited.upload(latents, [1, 16, 2, 12, 14]);
    const seen: Progress[] = [], used = limited.memory.used;
    const video = await vae.decodeRgb8(z, { onProgress: (p) => seen.push(p) });
    assertEquals(video.length, 5 * 96 * 112 * 3);
    assertEquals(seen.at(-1)!.done, seen.at(-1)!.total);
    return { tiles: seen.at(-1)!.total / 2, used };
  };
  const { tiles, used } = await tilesWith(Infinity);
  assertEquals(tiles, 1);
  // Frames of the last stage, with the 16 channels that come into it, and twice the pictures.
  const pixelBytes = 64 * 5 * 16 * 4, pictures = 2 * 5 * 96 * 112 * 3 * 4;
  const forTile = (pixels: number) => used + pictures + 3.6 * pixelBytes * pixels;
  assertEquals((await tilesWith(forTile(12 * 14))).tiles, 1);
  assertEquals((await tilesWith(forTile(8 * 8))).tiles, 2 * 3);
  assertEquals((await tilesWith(forTile(4 * 4))).tiles, 4 * 5);
}, plainOnly);

Deno.test("the memory of 480p is planned, with a quarter of HunyuanVideo's channels", async () => {
  const full = { _class_name: "AutoencoderKLHunyuanVideo" };
  const configOf = (change: object) => vaeConfig(new Config("config.json", { ...full, ...change }));
  const elements = hunyuanVaeTensors(configOf({})).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0);
  assertEquals(elements, 246_478_803);
  const config = configOf({ block_out_channels: [32, 64, 128, 128] }), tensors = hunyuanVaeTensors(config);
  for (const [half, most] of [["decoder", 1.2e9], ["encoder", 1e9]] as const) {
    for (const options of [{}, { precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS } as const]) {
      for (const memoryLimit of [Infinity, 0.8e9]) {
        const gpu = dryGpu({ ...options, memoryLimit }), weights = drySource(tensors, "F32");
        using vae = await AutoencoderKLHunyuanVideo.load(gpu, weights, config, undefined, [half]);
        if (half === "decoder") await vae.decodeRgb8(gpu.tensor([1, 16, 6, 60, 104]));
        else await vae.encode(gpu.tensor([1, 3, 21, 480, 832]));
        assert(gpu.memory.peak <= Math.min(memoryLimit, most), `${half}: ${gpu.memory.peak} of ${memoryLimit} bytes`);
      }
    }
  }
});

testVariants("the signal ends the work between tiles in time", async ({ gpu }) => {
  const vae = await load(gpu), z = gpu.upload(randn(16 * 8 * 4, 5), [1, 16, 8, 2, 2]), ending = new AbortController();
  const seen: number[] = [], before = gpu.memory.used;
  const onProgress = ({ done, total }: Progress) => {
    seen.push(done, total);
    if (done > 0) ending.abort(new Error("enough"));
  };
  await assertRejects(() => vae.decodeRgb8(z, { onProgress, signal: ending.signal }), Error, "enough");
  // Eight latent frames are tiles of 5, 5 and 2.
  assertEquals(seen, [0, 12, 5, 12]);
  assertEquals(gpu.memory.used, before);
  vae[Symbol.dispose]();
}, plainOnly);

testVariants("latents are scaled by one factor", async ({ gpu }) => {
  const vae = await load(gpu), values = randn(16 * 6, 2), latents = gpu.upload(values, [1, 16, 1, 2, 3]);
  const denormalized = vae.denormalize(latents);
  assertClose(await gpu.read(denormalized), values.map((v) => v / 0.476986), 1e-6);
  assertClose(await gpu.read(vae.normalize(denormalized)), values, 1e-6);
  vae[Symbol.dispose]();
}, plainOnly);

Deno.test("HunyuanVideo's VAE: what is not supported is named", async () => {
  const path = await Deno.makeTempFile(), given = JSON.parse(await Deno.readTextFile(`${FOLDER}/config.json`));
  const cases: [Record<string, unknown>, string][] = [
    [{ _class_name: "AutoencoderKLWan" }, '_class_name "AutoencoderKLWan" is not supported'],
    [{ temporal_compression_ratio: 8 }, "temporal_compression_ratio 8 is not supported"],
    [{ spatial_compression_ratio: 16 }, "spatial_compression_ratio 16 is not supported"],
    [{ block_out_channels: [8, 16] }, "block_out_channels [8,16] is not supported"],
    [{ norm_num_groups: 16 }, "norm_num_groups is 16, but it must divide all of block_out_channels, [8,16,16,24]"],
    [{ up_block_types: ["UpBlock"] }, 'up_block_types ["UpBlock"] is not supported'],
    [{ mid_block_add_attention: false }, "mid_block_add_attention false is not supported"],
    [{ scaling_factor: 0 }, "scaling_factor is 0"],
  ];
  for (const [change, message] of cases) {
    await Deno.writeTextFile(path, JSON.stringify({ ...given, ...change }));
    await assertRejects(() => readVaeConfig(path), TilereelError, message);
  }
  await Deno.writeTextFile(path, JSON.stringify({ _class_name: "AutoencoderKLHunyuanVideo" }));
  const { channels, groups, layersPerBlock, latentsStd } = await readVaeConfig(path);
  assertEquals([channels, groups, layersPerBlock], [[128, 256, 512, 512], 32, 2]);
  assertEquals(latentsStd, Array(16).fill(1 / 0.476986));
  await Deno.remove(path);
});
