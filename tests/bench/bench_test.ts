import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import { readFloat32, type TensorSource } from "../../model/checkpoint/tensor_source.ts";
import { Config } from "../../model/checkpoint/json.ts";
import { openModel } from "../../model/checkpoint/model_folder.ts";
import { transformerConfig } from "../../model/hunyuan/config.ts";
import { HunyuanVideoTransformer3DModel } from "../../model/hunyuan/transformer.ts";
import { AutoencoderKLWan } from "../../model/wan/vae/autoencoder.ts";
import { readVaeConfig } from "../../model/wan/vae/config.ts";
import { readTransformerConfig } from "../../model/wan/config.ts";
import { WanTransformer3DModel } from "../../model/wan/transformer.ts";
import { linear, linearTogether } from "../../gpu/ops/linear.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { conv3d } from "../../gpu/ops/conv3d.ts";
import { countFlops } from "../../bench/flops.ts";
import { writeRandomCheckpoint } from "../../bench/full_size/checkpoint.ts";
import { hunyuanTransformerTensors } from "../../bench/full_size/hunyuan_tensors.ts";
import { randomSource } from "../../bench/full_size/made_source.ts";
import { writeRandomWeights } from "../../bench/full_size/random_weights.ts";
import { transformerTensors, vaeTensors } from "../../bench/full_size/tensor_spec.ts";
import { measure } from "../../bench/measure.ts";
import { assertVaried, normalBytes, normalTensor, repeated } from "../../bench/random.ts";
import { shareFor } from "../../bench/steps.ts";
import { evenRoutes, full, sharesOf, veda, vorta } from "../../bench/steps/methods.ts";
import { blockOrder, openTransformer } from "../../bench/steps/transformer.ts";
import { sweep } from "../../bench/sweep/variants.ts";
import { report } from "../../bench/targets.ts";
import { readMeasured } from "../../bench/targets/measured.ts";
import { targetRows } from "../../bench/targets/rows.ts";
import { hunyuan, wan } from "../../bench/shapes.ts";
import { markdownTable, ofCeiling } from "../../bench/table.ts";
import { plainOnly, testVariants, variants } from "../gpu.ts";
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";

testVariants("bench: operations are counted by the formulas, whichever kernels do them", async ({ gpu }) => {
  await gpuScope(gpu, async (tensor) => {
    const x = tensor([2, 12, 16]), w = tensor([20, 16]);
    assertEquals(await countFlops(gpu, () => linear(gpu, x, w)), 2 * 24 * 20 * 16);
    const q = tensor([2, 12, 64]), k = tensor([2, 20, 64]), v = tensor([2, 20, 64]);
    assertEquals(await countFlops(gpu, () => attention(gpu, q, k, v, { heads: 2 })), 4 * 2 * 2 * 12 * 20 * 32);
    const clip = tensor([5, 6, 8, 4]), weight = tensor([8, 3, 3, 3, 4]), bias = tensor([8]);
    assertEquals(await countFlops(gpu, () => conv3d(gpu, clip, weight, bias)), 2 * 3 * 6 * 8 * 8 * 4 * 27);
  });
});

Deno.test("bench: operations are counted where matrix units want their operands packed", async () => {
  const gpu = dryGpu({ precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS });
  const x = gpu.tensor([2048, 256]), w = gpu.tensor([1536, 256], "bf16");
  const kernels: string[] = [], run = gpu.run;
  gpu.run = (kernel, dispatch) => {
    kernels.push(kernel.name);
    run.call(gpu, kernel, dispatch);
  };
  assertEquals(await countFlops(gpu, () => linear(gpu, x, w)), 2 * 2048 * 1536 * 256);
  assertEquals(kernels.map((name) => name.split("_", 2)[1]), ["pack", "pack", "panels"]);
  const layers = [w, w, w].map((w) => ({ w }));
  assertEquals(await countFlops(gpu, () => linearTogether(gpu, x, layers, true)), 3 * 2 * 2048 * 1536 * 256);
  assertEquals(kernels.filter((name) => name.startsWith("gemm_panels_")).length, 2);
});

testVariants("bench: a measurement times real work and leaves the device as it was", async ({ gpu }) => {
  await gpuScope(gpu, async (tensor) => {
    const x = tensor([64, 64]), w = tensor([64, 64]);
    gpu.placeholder; // made once and never freed
    const before = gpu.memory.used;
    let runs = 0;
    const result = await measure(gpu, () => {
      runs++;
      gpu.scope(() => void linear(gpu, x, w));
    });
    assert(result.samples >= 3 && runs > result.samples);
    assert(result.ms > 0 && Number.isFinite(result.ms));
    assertAlmostEquals(result.gflopsPerSecond, result.flops / result.ms / 1e6, 1e-9);
    assertEquals(gpu.memory.used, before);
  });
});

testVariants("bench: random tensors are normal, also past the length that repeats", async ({ gpu }) => {
  const tensor = normalTensor(gpu, [1100, 1000], 3);
  const numbers = await gpu.read(tensor);
  gpu.release(tensor);
  assertAlmostEquals(assertVaried(numbers, "numbers"), 3, 0.01);
  assert(numbers.every((x) => x !== 0));
  assert(numbers[0] !== numbers[1000]);
});

Deno.test("bench: pieces of a repeating block join up", () => {
  const block = Uint8Array.from({ length: 12 }, (_, i) => i);
  const joined = [...repeated(block, 8, 20)].flatMap((piece) => [...piece]);
  assertEquals(joined, Array.from({ length: 20 }, (_, i) => (i + 8) % 12));
  assertEquals([...repeated(block, 16, 4)].flatMap((piece) => [...piece]), [4, 5, 6, 7]);
});

Deno.test("bench: bf16 numbers are the upper halves of the f32 ones", () => {
  const wide = normalBytes("f32", 0.02), narrow = normalBytes("bf16", 0.02);
  assertEquals(narrow.length * 2, wide.length);
  assertEquals([...narrow.subarray(0, 4)], [wide[2]!, wide[3]!, wide[6]!, wide[7]!]);
});

Deno.test("bench: numbers that are not finite, or all alike, are refused", () => {
  assertThrows(() => assertVaried(Float32Array.of(1, NaN), "x"), Error, "not finite");
  assertThrows(() => assertVaried(Float32Array.of(1, Infinity), "x"), Error, "not finite");
  assertThrows(() => assertVaried(new Uint8Array(4).fill(7), "x"), Error, "same number, 7");
  assertAlmostEquals(assertVaried(Uint8Array.of(1, 3), "x"), 1, 1e-12);
});

Deno.test("bench: a table's columns line up, numbers to the right", () => {
  assertEquals(
    markdownTable([["case", "ms"], ["a", "1.5"], ["longer", "10.25"]]),
    ["| case   |    ms |", "| ------ | ----: |", "| a      |   1.5 |", "| longer | 10.25 |"].join("\n"),
  );
});

/** Small enough for a test, with every kind of tensor that the full size has. */
const SMALL = {
  transformer: { num_attention_heads: 2, attention_head_dim: 32, num_layers: 2, ffn_dim: 96, text_dim: 48 },
  vae: { base_dim: 8, num_res_blocks: 1 },
};

Deno.test({
  name: "bench: a random checkpoint has exactly the tensors that the model loads, and computes",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    const dir = await Deno.makeTempDir();
    const { gpu } = (await variants())[0]!;
    try {
      await writeRandomCheckpoint(dir, SMALL);
      const config = await readTransformerConfig(`${dir}/transformer/config.json`);
      using source = recording(await openCheckpoint(`${dir}/transformer`, "diffusion_pytorch_model"));
      const transformer = await WanTransformer3DModel.load(gpu, source.tensors, config);
      assertEquals([...source.asked].sort(), source.tensors.names().sort());
      await gpuScope(gpu, async (tensor) => {
        const latents = tensor([1, 16, 1, 4, 4]), conditioning = { text: tensor([1, 8, 48]) };
        const [velocity] = await transformer.predict([{ latents, timesteps: [500], conditioning }]);
        assertVaried(await gpu.read(velocity!), "the velocity");
        gpu.release(velocity!);
      });
      transformer[Symbol.dispose]();

      const vaeConfig = await readVaeConfig(`${dir}/vae/config.json`);
      using vaeSource = recording(await openCheckpoint(`${dir}/vae`, "diffusion_pytorch_model"));
      const vae = await AutoencoderKLWan.load(gpu, vaeSource.tensors, vaeConfig);
      assertEquals([...vaeSource.asked].sort(), vaeSource.tensors.names().sort());
      await gpuScope(gpu, async (tensor) => {
        assertVaried(await vae.decodeRgb8(tensor([1, 16, 2, 2, 2])), "the clip");
      });
      vae[Symbol.dispose]();
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});

Deno.test("bench: a random checkpoint of HunyuanVideo is a model that can be opened, with all that its parts have", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const transformer = { num_attention_heads: 2, attention_head_dim: 32, rope_axes_dim: [8, 12, 12], num_layers: 1 };
    const bytes = await writeRandomCheckpoint(dir, {
      family: "hunyuan",
      transformer: { ...transformer, num_single_layers: 2, text_embed_dim: 64, pooled_projection_dim: 32 },
      vae: { block_out_channels: [32, 32, 32, 32], norm_num_groups: 8, layers_per_block: 1 },
    });
    using model = await openModel(dir);
    assertEquals([model.family.name, model.textDim, model.pooledDim, model.shape.layers], ["HunyuanVideo", 64, 32, 3]);
    const gpu = dryGpu({});
    using _transformer = await model.loadTransformer(gpu);
    using _vae = await model.loadVae(gpu, "decoder");
    let stored = 0;
    for (const part of ["transformer", "vae"]) {
      using source = await openCheckpoint(`${dir}/${part}`, "diffusion_pytorch_model");
      for (const name of source.names()) stored += source.info(name).bytes;
    }
    assertEquals(stored, bytes);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("bench: random weights are split into shards that belong together", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const tensors = [
      { name: "a.weight", shape: [30, 10] },
      { name: "b.weight", shape: [30, 10] },
      { name: "norm1.gamma", shape: [40, 1, 1] },
    ];
    assertEquals(await writeRandomWeights(dir, tensors, "BF16", 1000), 2 * 640);
    const names = [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
    assertEquals(names, [
      "diffusion_pytorch_model-00001-of-00002.safetensors",
      "diffusion_pytorch_model-00002-of-00002.safetensors",
      "diffusion_pytorch_model.safetensors.index.json",
    ]);
    using source = await openCheckpoint(dir, "diffusion_pytorch_model");
    assertEquals(source.names().map((name) => source.info(name).shape), tensors.map(({ shape }) => shape));
    const [a, b, gamma] = await Promise.all(tensors.map(({ name }) => readFloat32(source, name)));
    assertAlmostEquals(assertVaried(a!, "a"), 0.02, 0.003);
    assert(a!.some((x, i) => x !== b![i]));
    assert(gamma!.every((x) => Math.abs(x - 1) < 0.2));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("bench: the full size has the parameters of Wan 2.1 T2V 1.3B", async () => {
  const file = await Deno.makeTempFile({ suffix: ".json" });
  const count = (tensors: { shape: readonly number[] }[]) =>
    tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0);
  try {
    await Deno.writeTextFile(
      file,
      JSON.stringify({
        _class_name: "WanTransformer3DModel",
        num_attention_heads: 12,
        num_layers: 30,
        ffn_dim: 8960,
      }),
    );
    assertEquals(count(transformerTensors(await readTransformerConfig(file))), 1_418_996_800);
    await Deno.writeTextFile(file, JSON.stringify({ _class_name: "AutoencoderKLWan" }));
    assertEquals(count(vaeTensors(await readVaeConfig(file))), 126_892_531);
    const hunyuan = transformerConfig(new Config("HunyuanVideo", {}));
    assertEquals(count(hunyuanTransformerTensors(hunyuan)), 12_821_012_544);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("bench: weights without a file are those that a file would hold", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const tensors = [{ name: "a.weight", shape: [30, 12] }, { name: "norm_q.weight", shape: [44] }];
    await writeRandomWeights(dir, tensors, "BF16");
    using stored = await openCheckpoint(dir, "diffusion_pytorch_model");
    using made = randomSource(tensors);
    assertEquals(made.names(), stored.names());
    for (const name of made.names()) {
      const [info, expected] = [made, stored].map((source) => source.info(name));
      assertEquals([info!.dtype, info!.shape, info!.bytes], [expected!.dtype, expected!.shape, expected!.bytes]);
      assertEquals(await made.read(name), await stored.read(name));
    }
    assertEquals(await made.readRange("a.weight", 100, 40), await stored.readRange("a.weight", 100, 40));
    assertEquals(await made.readRows("a.weight", [7, 2]), await stored.readRows("a.weight", [7, 2]));
    assertThrows(() => made.info("b"), Error, 'no tensor "b"');
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("bench: heads are dealt out to the branches in the shares asked for, over as few layers as it takes", () => {
  const counts = (route: Uint8Array) => [0, 1, 2].map((branch) => route.filter((one) => one === branch).length);
  const even = evenRoutes(0.3, 40);
  assertEquals(even.map(counts), [[12, 14, 14]]);
  const wan = evenRoutes(0.3, 12);
  assertEquals(wan.length, 5);
  assertEquals(sharesOf(wan), [0.3, 0.35, 0.35]);
  for (const route of wan) {
    assertEquals(route.length, 12);
    const [full, coreset, sliding] = counts(route);
    assert(full === 3 || full === 4, `${full} full heads`);
    assert(Math.abs(coreset! - 4.2) < 2 && Math.abs(sliding! - 4.2) < 2, `${coreset} and ${sliding}`);
  }
  assertEquals(evenRoutes(0, 12).map(counts), [[0, 6, 6]]);
  assertEquals(evenRoutes(1, 3).map(counts), [[3, 0, 0]]);
  const third = sharesOf(evenRoutes(1 / 3, 1));
  assert(third.every((share) => Math.abs(share - 1 / 3) < 1e-9));
});

Deno.test("bench: the share at a speed-up lies on the line between those measured", () => {
  const points = [{ share: 0.6, time: 0.8 }, { share: 0, time: 0.4 }, { share: 1, time: 1 }];
  assertAlmostEquals(shareFor(points, 0.5)!, 0.15, 1e-12);
  assertAlmostEquals(shareFor(points, 0.9)!, 0.8, 1e-12);
  assertEquals(shareFor(points, 0.4), 0);
  assertEquals(shareFor(points, 0.3), undefined);
  assertEquals(shareFor(points, 2), 1);
});

Deno.test("bench: ceilings are known by the adapter's name", () => {
  assertEquals(ofCeiling("nvidia-h100-80gb-hbm3 (NVIDIA: 580.159.4)", 67, false), "100 % of 67");
  assertEquals(ofCeiling("NVIDIA H100 PCIe", 1, false), "unknown");
  assertEquals(ofCeiling("NVIDIA H200", 33.5, false), "50 % of 67");
  assertEquals(ofCeiling("NVIDIA H200", 494.5, true), "50 % of 989");
  assertEquals(ofCeiling("llvmpipe", 1, false), "unknown");
});

testVariants("bench: HunyuanVideo's tensors are exactly those that the model loads", async ({ gpu }) => {
  const config = transformerConfig(new Config("a tiny model", TIMED.HunyuanVideo.json));
  using source = recording(randomSource(hunyuanTransformerTensors(config)));
  using _ = await HunyuanVideoTransformer3DModel.load(gpu, source.tensors, config);
  assertEquals([...source.asked].sort(), source.tensors.names().sort());
}, plainOnly);

/** Two blocks of one kind, and of two kinds. */
const TIMED = {
  Wan: wan("a tiny model", { width: 128, height: 96, frames: 9 }, {
    ...{ num_attention_heads: 3, attention_head_dim: 32, ffn_dim: 64, num_layers: 2, text_dim: 64 },
  }, 16),
  HunyuanVideo: hunyuan("a tiny model", { width: 128, height: 96, frames: 9 }, {
    ...{ num_attention_heads: 3, attention_head_dim: 32, rope_axes_dim: [8, 12, 12], mlp_ratio: 1, num_layers: 1 },
    ...{ num_single_layers: 1, text_embed_dim: 64, pooled_projection_dim: 32, num_refiner_layers: 1 },
  }),
};

for (const [family, shape] of Object.entries(TIMED)) {
  testVariants(`bench: what is timed as a step computes, ${family}`, async ({ gpu }) => {
    const before = gpu.memory.used;
    const transformer = await openTransformer(gpu, shape, shape.blocks);
    const lent = gpu.memory.used;
    for (const make of [() => full(gpu, shape), () => vorta(gpu, shape, 1 / 3), () => veda(gpu, shape, 0.25)]) {
      using method = make();
      let calls: number[] = [];
      const attend: typeof method.attend = method.attend && ((q, k, v, layer) => {
        calls.push(layer);
        return method.attend!(q, k, v, layer);
      });
      const round = async () => {
        calls = [];
        transformer.layers(5, attend);
        if (attend) assertEquals(calls, [0, 1, 2, 3, 4]);
        calls = [];
        await transformer.forward(attend);
        if (attend) assertEquals(calls, [0, 1]);
        transformer.outer();
        await gpu.finish();
        return gpu.memory.used;
      };
      // Tensors that are kept take buffers of the pool, which may be a little larger the first time.
      const held = await round();
      assertEquals(await round(), held);
      assert(
        method.density > 0 && (method.density < 1) === (method.name !== "full"),
        `${method.name} ${method.density}`,
      );
    }
    assert(lent > before);
  });
}

Deno.test("bench: kinds of blocks are timed in proportion, and each block in turn", () => {
  const blocks = (all: number[], loaded: number[], count: number) => {
    const { period, at } = blockOrder(all, loaded);
    return [period, Array.from({ length: count }, (_, layer) => at(layer))];
  };
  assertEquals(blocks([40], [1], 3), [1, [0, 0, 0]]);
  assertEquals(blocks([3], [3], 4), [1, [0, 1, 2, 0]]);
  assertEquals(blocks([20, 40], [1, 1], 7), [3, [0, 1, 1, 0, 1, 1, 0]]);
  assertEquals(blocks([2, 4], [2, 4], 7), [3, [0, 2, 3, 1, 4, 5, 0]]);
  assertEquals(blocks([16, 40], [1, 1], 7), [7, [0, 0, 1, 1, 1, 1, 1]]);
});

Deno.test({
  name: "bench: a sweep times every variant, names what does not run, and sees what computes something else",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    const { device, settings } = (await variants())[0]!.gpu;
    const run = (gpu: Gpu, variant: string) =>
      gpu.scope(() => {
        if (variant === "broken") throw new Error("this variant\ndoes not compile");
        const x = normalTensor(gpu, [8, 8]);
        linear(gpu, x, x);
      });
    const family = (name: string) => ({
      name,
      variants: () => new Map(["good", "broken", "other"].map((variant) => [variant, variant])),
      trial: (gpu: Gpu) => (variant: string) => run(gpu, variant),
      sample: (gpu: Gpu) => gpu.tensor([1]),
    });
    // A Gpu that is closed takes its device with it: this one is shared.
    const opened: Gpu[] = [];
    const open = () => {
      const gpu = new Gpu(device, settings);
      gpu.close = () => {};
      opened.push(gpu);
      return Promise.resolve(gpu);
    };
    const results = await sweep([family("nothing known"), family("gemm")], "small", open);
    assertEquals(
      results.filter(({ family }) => family === "nothing known").map(({ variant, error }) => [variant, error]),
      [
        ["good", undefined],
        ["broken", "this variant"],
        ["other", undefined],
      ],
    );
    assertEquals(opened.length, 2);
    const gemms = results.filter(({ family }) => family === "gemm");
    // The op knows none of these variants: all are its own.
    assertEquals(gemms.length, 3);
    for (const { ms, tflops, off, variant } of gemms) {
      assert(ms! > 0 && tflops! > 0);
      assertEquals(off, variant === "good" ? undefined : 0);
    }
  },
});

Deno.test("bench: targets stand beside what was measured; what was not measured says so", async () => {
  const dir = await Deno.makeTempDir();
  const write = (name: string, data: unknown) => Deno.writeTextFile(`${dir}/${name}`, JSON.stringify(data));
  try {
    await write("bench-dawn.json", {
      adapter: "NVIDIA H200",
      source: "dawn",
      results: [
        { case: "GEMM 32760×1536×8960", kernels: "tiled f32", gflopsPerSecond: 40_000 },
        { case: "GEMM 32760×1536×8960", kernels: "matrix f16", gflopsPerSecond: 300_000 },
      ],
    });
    const attention = {
      adapter: "NVIDIA H200",
      source: "deno",
      shape: "1.3b",
      heads: 12,
      headDim: 128,
      grid: [21, 30, 52],
    };
    const sparse = (dense: number, veda: number) => [
      { kind: "dense", ms: dense, efficiency: 1 },
      { kind: "veda 0.1", ms: 1, efficiency: veda },
      { kind: "sliding", ms: 1, efficiency: 0.84 },
    ];
    // The efficiency at the slower precision does not count.
    await write("sparse-deno.json", { ...attention, precision: "f32", results: sparse(200, 0.91) });
    await write("sparse-deno-2.json", { ...attention, precision: "f16", results: sparse(400, 0.5) });
    const block = { attentionMs: 1, restMs: 1, blockSpread: 0 };
    await write("steps14-dawn.json", {
      source: "dawn",
      precision: "f16",
      shape: "14b",
      shareAtGoal: 0.25,
      results: [
        { method: "full", ...block, blockMs: 300, fromBlocks: 12, speedUp: 1 },
        { method: "vorta", fullHeads: 0.3, ...block, blockMs: 200, fromBlocks: 8, speedUp: 1.5 },
        { method: "veda", keep: 0.1, ...block, blockMs: 100, fromBlocks: 4, speedUp: 3 },
      ],
    });
    await write("torch.json", { results: [{ shape: "14b", what: "forward, eager", ms: 9000 }] });
    await Deno.writeTextFile(`${dir}/steps-dawn.json`, '{"source": "da');
    await Deno.writeTextFile(`${dir}/jobs.tsv`, "bench-dawn\t0\t9\t130\nsteps-dawn\t124\t150\t150\n");
    const measured = readMeasured([dir]);
    const row = (start: string) => targetRows(measured).find(({ what }) => what.startsWith(start))!;
    assertEquals(row("GEMM 32760×1536×8960, Dawn"), {
      what: "GEMM 32760×1536×8960, Dawn (matrix f16)",
      target: "≥ 250 TFLOP/s",
      measured: "300.0 TFLOP/s",
      ceiling: "30 % of 989",
      pass: true,
    });
    assertEquals(row("GEMM 32760×1536×8960, native").measured, "not measured");
    assertEquals(row("dense attention, native").measured, "33.0 TFLOP/s");
    assertEquals(row("dense attention, native").pass, true);
    assertEquals(row("efficiency at keep 0.1, native").pass, true);
    assertEquals(row("efficiency, sliding tile, native").pass, false);
    assertEquals(row("efficiency, core-set, native").pass, undefined);
    assertEquals(row("VORTA with 30 % full heads, 14B 720p, Dawn").pass, false);
    assertEquals(row("share of full heads at 1.76x, 14B").measured, "25 %");
    assertEquals(row("Veda at keep 0.1, whole layer, 14B 720p, Dawn").pass, true);
    assertEquals(row("Veda at keep 0.1 on Dawn, PyTorch dense, 14B").pass, true);
    assertEquals(row("Veda at keep 0.1 on Dawn, PyTorch dense, 1.3B").pass, undefined);
    const text = report(measured);
    assert(text.includes("Job steps-dawn: stopped at its limit after 150 s."));
    assert(text.endsWith("|") && text.includes("MISS") && text.includes("not measured"));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

/** Lends random tensors to `work` and frees them behind it. */
async function gpuScope(
  gpu: Gpu,
  work: (tensor: (shape: readonly number[]) => Tensor) => Promise<void>,
) {
  const lent: Tensor[] = [];
  try {
    await work((shape) => {
      const tensor = normalTensor(gpu, shape);
      lent.push(tensor);
      return tensor;
    });
  } finally {
    for (const tensor of lent) gpu.release(tensor);
  }
}

/** A source that remembers which tensors were asked for. */
function recording(source: TensorSource) {
  const asked = new Set<string>();
  const tensors = new Proxy(source, {
    get(target, key) {
      if (key === "info") {
        return (name: string) => {
          asked.add(name);
          return target.info(name);
        };
      }
      const value = Reflect.get(target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { asked, tensors, [Symbol.dispose]: () => source.close() };
}
