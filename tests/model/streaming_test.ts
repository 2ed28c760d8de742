import { type Changes, writeRandomCheckpoint } from "../../bench/full_size/checkpoint.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import type { TensorSource } from "../../model/checkpoint/tensor_source.ts";
import { VideoPipeline } from "../../model/pipeline.ts";
import { readTransformerConfig } from "../../model/wan/config.ts";
import { WanTransformer3DModel } from "../../model/wan/transformer.ts";
import type { WeightsPlace } from "../../model/blocks/weights_place.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { randn, testVariants, variants } from "../gpu.ts";
import { assertRefused, execute, inTempDir, listFiles, program, QUICK, tilereel } from "../process.ts";

const SMALL = {
  transformer: { num_attention_heads: 2, attention_head_dim: 32, num_layers: 3, ffn_dim: 96, text_dim: 48 },
  vae: { base_dim: 8, num_res_blocks: 1 },
};

async function withModel(work: (dir: string) => Promise<void>, transformer: Changes["transformer"] = {}) {
  await inTempDir(async (dir) => {
    await writeRandomCheckpoint(dir, { ...SMALL, transformer: { ...SMALL.transformer, ...transformer } });
    await work(dir);
  });
}

/** Opens the transformer of a model; `change` stands between it and its file. */
async function open(
  gpu: Gpu,
  dir: string,
  place: WeightsPlace,
  change: (source: TensorSource) => Partial<TensorSource> = () => ({}),
) {
  const source = await openCheckpoint(`${dir}/transformer`, "diffusion_pytorch_model");
  const methods = ["info", "has", "names", "readRange"] as const;
  const passed = Object.fromEntries(methods.map((name) => [name, source[name].bind(source)]));
  const changed = { path: source.path, ...passed, ...change(source) } as unknown as TensorSource;
  const config = await readTransformerConfig(`${dir}/transformer/config.json`);
  const transformer = await WanTransformer3DModel.load(gpu, changed, config, { place }).catch((error) => {
    source.close();
    throw error;
  });
  return {
    transformer,
    [Symbol.dispose]: () => {
      transformer[Symbol.dispose]();
      source.close();
    },
  };
}

/** Two inputs as guidance has them, at an odd number of tokens. */
function inputs(gpu: Gpu) {
  const latents = gpu.upload(randn(16 * 3 * 2 * 2, 1), [1, 16, 3, 2, 2]);
  const texts = [2, 3].map((seed) => gpu.upload(randn(5 * 48, seed), [1, 5, 48]));
  return {
    inputs: texts.map((text) => ({ latents, timesteps: [500], conditioning: { text } })),
    release: () => [latents, ...texts].forEach((tensor) => gpu.release(tensor)),
  };
}

async function numbers(gpu: Gpu, tensors: readonly Tensor[]): Promise<number[][]> {
  const all: number[][] = [];
  for (const tensor of tensors) {
    all.push([...await gpu.read(tensor)]);
    gpu.release(tensor);
  }
  return all;
}

for (const layers of [1, 3, 4]) {
  testVariants(
    `streamed: ${layers} blocks give bit for bit what resident ones give, step after step`,
    ({ gpu }) =>
      withModel(async (dir) => {
        const { inputs: both, release } = inputs(gpu);
        const predicted: Record<string, number[][][]> = {};
        for (const place of ["resident", "stream"] as const) {
          using opened = await open(gpu, dir, place);
          predicted[place] = [];
          for (let step = 0; step < 3; step++) {
            const some = step === 1 ? both.slice(1) : both;
            predicted[place].push(await numbers(gpu, await opened.transformer.predict(some)));
          }
        }
        release();
        assertEquals(predicted.stream, predicted.resident);
        assert(predicted.resident![0]![0]!.every(Number.isFinite));
        assert(predicted.resident![0]![0]!.some((value, i) => value !== predicted.resident![0]![1]![i]));
      }, { num_layers: layers }),
  );
}

/** Runs a test on one device, for memory and files know no kernel variants. */
function test(name: string, run: (gpu: Gpu) => Promise<void>): void {
  const fn = async () => await run((await variants())[0]!.gpu);
  Deno.test({ name, sanitizeResources: false, sanitizeOps: false, fn });
}

test("streamed: two blocks' worth of memory however many there are, and each is read once a step", async (gpu) => {
  const loaded: number[] = [];
  for (const layers of [2, 5]) {
    await withModel(async (dir) => {
      const before = gpu.memory.used;
      const reads = new Map<number, number>();
      using opened = await open(gpu, dir, "stream", (source) => ({
        readRange: (name, ...rest) => {
          const layer = /^blocks\.(\d+)\.attn1\.to_q\.weight/.exec(name)?.[1];
          if (layer !== undefined) reads.set(Number(layer), (reads.get(Number(layer)) ?? 0) + 1);
          return source.readRange(name, ...rest);
        },
      }));
      const { inputs: both, release } = inputs(gpu);
      await numbers(gpu, await opened.transformer.predict(both));
      const used = gpu.memory.used;
      loaded.push(used - before);
      await numbers(gpu, await opened.transformer.predict(both));
      assertEquals(gpu.memory.used, used);
      // The first is on its way for a third step.
      assertEquals([...reads], Array.from({ length: layers }, (_, layer) => [layer, layer === 0 ? 3 : 2]));
      release();
    }, { num_layers: layers });
  }
  assertEquals(loaded[0], loaded[1]);
});

test("streamed: dropped blocks leave the GPU and come back", async (gpu) => {
  await withModel(async (dir) => {
    for (const place of ["resident", "stream"] as const) {
      using opened = await open(gpu, dir, place);
      const { inputs: both, release } = inputs(gpu);
      const first = await numbers(gpu, await opened.transformer.predict(both));
      const { used } = gpu.memory;
      opened.transformer.dropBlocks();
      assert(gpu.memory.used < used - 2 * 64 * 64 * 2, place);
      assertEquals(await numbers(gpu, await opened.transformer.predict(both)), first);
      assertEquals(gpu.memory.used, used, place);
      release();
    }
  });
});

test("streamed: a read that fails ends the step, frees its tensors, and does not spoil the next", async (gpu) => {
  await withModel(async (dir) => {
    const { inputs: both, release } = inputs(gpu);
    for (const layer of [0, 1, 3]) {
      let fail = false;
      using opened = await open(gpu, dir, "stream", (source) => ({
        readRange: (name, ...rest) =>
          fail && name.startsWith(`blocks.${layer}.ffn`)
            ? Promise.reject(new TilereelError("the disk is gone"))
            : source.readRange(name, ...rest),
      }));
      const good = await numbers(gpu, await opened.transformer.predict(both));
      const { used } = gpu.memory;
      fail = true;
      // Block 0 is read ahead: it may have been there, or halfway, before.
      const steps = async () => {
        for (let i = 0; i < (layer === 0 ? 2 : 1); i++) await numbers(gpu, await opened.transformer.predict(both));
      };
      await assertRejects(steps, TilereelError, "the disk is gone");
      assertEquals(gpu.memory.used, used);
      fail = false;
      assertEquals(await numbers(gpu, await opened.transformer.predict(both)), good);
    }
    release();
  }, { num_layers: 5 });
});

test("streamed: a block that lacks a tensor, or has another shape, is refused while loading", async (gpu) => {
  await withModel(async (dir) => {
    const { used } = gpu.memory;
    const missing = "blocks.2.attn2.norm_k.weight";
    const refused = (change: (source: TensorSource) => Partial<TensorSource>, message: string) =>
      assertRejects(() => open(gpu, dir, "stream", change), TilereelError, message);
    await refused((source) => ({
      info: (name) => source.info(name === missing ? "none" : name),
    }), 'no tensor "none"');
    await refused((source) => ({
      info: (name) => name === missing ? { ...source.info(name), shape: [65] } : source.info(name),
    }), `"${missing}"`);
    assertEquals(gpu.memory.used, used);
  });
});

const CLIP = { prompt: "", width: 32, height: 16, frames: 5, steps: 3, guidance: 2, seed: 3 };
const EMBEDDINGS = { positive: randn(5 * 48, 1), negative: randn(5 * 48, 2) };

test("streamed: auto goes by the memory there is, keeps to it, and leaves nothing behind", async (gpu) => {
  await withModel(async (dir) => {
    const render = async (weights: "auto" | "resident" | "stream", memoryLimit: number) => {
      const limited = new Gpu(gpu.device, { ...gpu.settings, memoryLimit });
      const pipeline = await VideoPipeline.load(dir, { gpu: limited, weights, clips: [CLIP] });
      try {
        const { data } = await pipeline.generate({ ...CLIP, embeddings: EMBEDDINGS });
        return { data, peak: limited.memory.peak, placement: pipeline.weights };
      } finally {
        pipeline.close();
      }
    };
    const resident = await render("auto", Infinity), stream = await render("stream", Infinity);
    assertEquals(resident.placement.place, "resident");
    const { place, why, stored, held, bytes } = stream.placement;
    assertEquals({ place, why, stored, held }, {
      place: "stream",
      why: "it was requested",
      stored: ["BF16"],
      held: ["bf16"],
    });
    assert(bytes < resident.placement.bytes / 4);
    assert(stream.peak < resident.peak / 2, `${stream.peak} of ${resident.peak} bytes`);
    const limit = Math.ceil((stream.peak + resident.peak) / 2);
    const auto = await render("auto", limit);
    assertEquals(auto.placement.place, "stream");
    assert(auto.placement.why.includes("do not fit the limit of"), auto.placement.why);
    assert(auto.peak <= limit);
    await assertRejects(() => render("resident", limit), TilereelError, "too little memory");
    assertEquals(stream.data, resident.data);
    assertEquals(auto.data, resident.data);
  }, { num_layers: 40 });
});

test("streamed: weights that are cut short while rendering end it with a sentence", async (gpu) => {
  await withModel(async (dir) => {
    const { used } = gpu.memory;
    const pipeline = await VideoPipeline.load(dir, { gpu, weights: "stream", clips: [CLIP] });
    const file = `${dir}/transformer/diffusion_pytorch_model.safetensors`;
    const onStep = () => Deno.truncate(file, 100_000);
    await assertRejects(
      () => pipeline.generate({ ...CLIP, embeddings: EMBEDDINGS, onStep }),
      TilereelError,
      "ended while it was read; run the command again when the file is complete",
    );
    pipeline.close();
    assertEquals(gpu.memory.used, used);
  });
});

Deno.test("streamed: the command line says so, and makes the same clip", async () => {
  await inTempDir(async (dir) => {
    const render = (out: string, ...more: string[]) =>
      tilereel(["generate", "a red circle", "--seed", "1", "--out", `${dir}/${out}`, ...QUICK, ...more]);
    const resident = await render("resident.mp4", "--json");
    const streamed = await render("streamed.mp4", "--weights", "stream");
    const json = await render("json.mp4", "--weights", "stream", "--json", "--attention", "full");
    assertEquals([resident.code, streamed.code, json.code], [0, 0, 0], streamed.err);
    assert(
      streamed.out.startsWith("Weights are streamed from disk, block by block: it was requested; stored as BF16, "),
      streamed.out,
    );
    const { place, why, stored, held } = JSON.parse(json.out).weights;
    assertEquals([place, why, stored, held], ["stream", "it was requested", ["BF16"], ["bf16"]]);
    assertEquals(JSON.parse(resident.out).weights.place, "resident");
    assertEquals(Deno.readFileSync(`${dir}/streamed.mp4`), Deno.readFileSync(`${dir}/resident.mp4`));
    const before = listFiles(dir);
    assertRefused(await render("x.mp4", "--weights", "disk"), "--weights must be auto, resident or stream");
    assertEquals(listFiles(dir), before);
  });
});

Deno.test("streamed: a device that is lost, also while a block is on its way, ends it with a sentence", async () => {
  await inTempDir(async (dir) => {
    for (const submissions of [60, 300]) {
      const args = [String(submissions), "generate", "a", "--quiet", "--out", `${dir}/x.mp4`, "--size", "32x32"];
      assertRefused(
        await execute(
          Deno.execPath(),
          program("tests/lose_device.ts", [...args, "--steps", "1000", "--weights", "stream"]),
        ),
        "the GPU was lost while working",
      );
      assertEquals(listFiles(dir), []);
    }
  });
});
