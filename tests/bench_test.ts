import type { Gpu } from "../gpu/gpu.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { openCheckpoint } from "../model/checkpoint/sharded.ts";
import { readFloat32, type TensorSource } from "../model/checkpoint/tensor_source.ts";
import { AutoencoderKLWan } from "../model/vae/autoencoder.ts";
import { readVaeConfig } from "../model/vae/config.ts";
import { readTransformerConfig } from "../model/wan/config.ts";
import { WanTransformer3DModel } from "../model/wan/transformer.ts";
import { linear } from "../gpu/ops/linear.ts";
import { attention } from "../gpu/ops/attention.ts";
import { conv3d } from "../gpu/ops/conv3d.ts";
import { countFlops } from "../bench/flops.ts";
import { writeRandomCheckpoint } from "../bench/full_size/checkpoint.ts";
import { writeRandomWeights } from "../bench/full_size/random_weights.ts";
import { transformerTensors, vaeTensors } from "../bench/full_size/tensor_spec.ts";
import { assertVaried } from "../bench/full_size/varied.ts";
import { measure } from "../bench/measure.ts";
import { normalBytes, normalTensor, repeated } from "../bench/random.ts";
import { markdownTable } from "../bench/table.ts";
import { testVariants, variants } from "./gpu.ts";
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

testVariants("bench: a measurement times real work and leaves the device as it was", async ({ gpu }) => {
  await gpuScope(gpu, async (tensor) => {
    const x = tensor([64, 64]), w = tensor([64, 64]);
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
        const hiddenStates = tensor([1, 16, 1, 4, 4]), textEmbeddings = tensor([1, 8, 48]);
        const velocity = transformer.forward({ hiddenStates, timesteps: [500], textEmbeddings });
        assertVaried(await gpu.read(velocity), "the velocity");
        gpu.release(velocity);
      });
      transformer.release();

      const vaeConfig = await readVaeConfig(`${dir}/vae/config.json`);
      using vaeSource = recording(await openCheckpoint(`${dir}/vae`, "diffusion_pytorch_model"));
      const vae = await AutoencoderKLWan.load(gpu, vaeSource.tensors, vaeConfig);
      assertEquals([...vaeSource.asked].sort(), vaeSource.tensors.names().sort());
      await gpuScope(gpu, async (tensor) => {
        assertVaried(await vae.decodeRgb8(tensor([1, 16, 2, 2, 2])), "the clip");
      });
      vae.release();
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
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
  } finally {
    await Deno.remove(file);
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
