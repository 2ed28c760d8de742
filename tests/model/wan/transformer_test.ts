import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { PassConstants } from "../../../model/pass_constants.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import { readTransformerConfig } from "../../../model/wan/config.ts";
import { WanTransformer3DModel } from "../../../model/wan/transformer.ts";
import { type Changes, writeRandomCheckpoint } from "../../../bench/full_size/checkpoint.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { assertClose, randn, testVariants, variants } from "../../gpu.ts";

/** Rows of 128 bytes: with odd counts of them, batch items begin where no buffer can be bound. */
const NARROW = {
  transformer: { num_attention_heads: 1, attention_head_dim: 32, num_layers: 1, ffn_dim: 64, text_dim: 32 },
  vae: { base_dim: 8, num_res_blocks: 1 },
};

async function withNarrowModel(work: (dir: string) => Promise<void>, changes: Changes = {}): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const { transformer, vae } = changes;
    await writeRandomCheckpoint(dir, {
      transformer: { ...NARROW.transformer, ...transformer },
      vae: { ...NARROW.vae, ...vae },
    });
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function testNarrow(name: string, run: (dir: string, gpu: Gpu) => Promise<void>, changes: Changes = {}): void {
  Deno.test({
    name,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const { gpu } = (await variants())[0]!;
      await withNarrowModel((dir) => run(dir, gpu), changes);
    },
  });
}

testVariants(
  "transformer: a batch gives what its items give alone, at any length",
  ({ gpu, bound }) =>
    withNarrowModel(async (dir) => {
      using source = await openCheckpoint(`${dir}/transformer`, "diffusion_pytorch_model");
      const config = await readTransformerConfig(`${dir}/transformer/config.json`);
      const transformer = await WanTransformer3DModel.load(gpu, source, config);
      const latents = [1, 2, 3].map((seed) => randn(16 * 3 * 2 * 2, seed));
      const texts = [4, 5, 6].map((seed) => randn(5 * 32, seed));
      const timesteps = [900, 500, 20];
      const forward = async (items: number[]) => {
        const latent = gpu.upload(joined(items.map((i) => latents[i]!)), [items.length, 16, 3, 2, 2]);
        const text = gpu.upload(joined(items.map((i) => texts[i]!)), [items.length, 5, 32]);
        const pass = { latents: latent, timesteps: items.map((i) => timesteps[i]!), conditioning: { text } };
        const [y] = await transformer.predict([pass]);
        const velocity = await gpu.read(y!);
        for (const tensor of [latent, text, y!]) gpu.release(tensor);
        return velocity;
      };
      const alone = [await forward([0]), await forward([1]), await forward([2])];
      assertClose(await forward([0, 1, 2]), joined(alone), bound);
      transformer[Symbol.dispose]();
    }),
);

testVariants(
  "transformer: text past the prompt's end counts, and what is the same in all steps is made once",
  ({ gpu, bound }) =>
    withNarrowModel(async (dir) => {
      using source = await openCheckpoint(`${dir}/transformer`, "diffusion_pytorch_model");
      const config = await readTransformerConfig(`${dir}/transformer/config.json`);
      const transformer = await WanTransformer3DModel.load(gpu, source, config);
      const latents = gpu.upload(randn(16 * 3 * 2 * 2, 1), [1, 16, 3, 2, 2]), tokens = 40;
      for (const textLength of [0, 1, 7, 38, 39, 40]) {
        const numbers = randn(tokens * 32, 2).fill(0, textLength * 32);
        const text = gpu.upload(numbers, [1, tokens, 32]);
        const velocity = async (timestep: number, more: { textLength?: number }, constants?: PassConstants) => {
          const conditioning = { text, ...more };
          const [y] = await transformer.predict([{ latents, timesteps: [timestep], conditioning, constants }]);
          const numbers = await gpu.read(y!);
          gpu.release(y!);
          return numbers;
        };
        await velocity(500, {}); // RoPE's table is held
        const constants = new PassConstants(gpu), held = gpu.memory.used;
        for (const timestep of [900, 20]) {
          const cut = await velocity(timestep, { textLength }), whole = await velocity(timestep, {});
          assertClose(cut, whole, bound, `${textLength} of ${tokens}`);
          assertEquals(await velocity(timestep, { textLength }, constants), cut);
        }
        assert(gpu.memory.used > held, "nothing is kept");
        constants[Symbol.dispose]();
        assertEquals(gpu.memory.used, held);
        gpu.release(text);
      }
      gpu.release(latents);
      transformer[Symbol.dispose]();
    }),
);

testNarrow("pipeline: zeros at the end of given embeddings are padding", async (dir, gpu) => {
  const pipeline = await VideoPipeline.load(dir, { gpu }), dispatches: number[] = [];
  const run = gpu.run;
  for (const length of [40, 3]) {
    let largest = 0;
    gpu.run = (kernel, dispatch) => {
      if (kernel.name.startsWith("attention")) largest = Math.max(largest, dispatch.params["repeats"] ?? 0);
      run.call(gpu, kernel, dispatch);
    };
    const embeddings = { positive: randn(40 * 32, 1).fill(0, length * 32) };
    await pipeline.generate({ prompt: "", width: 32, height: 16, frames: 1, steps: 1, guidance: 1, embeddings });
    dispatches.push(largest);
  }
  gpu.run = run;
  assertEquals(dispatches, [0, Math.log2(37)]);
  pipeline.close();
});

testNarrow("pipeline: embeddings of any length, with guidance", async (dir, gpu) => {
  const pipeline = await VideoPipeline.load(dir, { gpu });
  const render = (positive: Float32Array, negative: Float32Array) =>
    pipeline.generate({
      prompt: "",
      width: 32,
      height: 16,
      frames: 1,
      steps: 1,
      guidance: 2,
      embeddings: { positive, negative },
    });
  const a = randn(5 * 32, 1, 9), b = randn(5 * 32, 2, 9);
  const ab = await render(a, b);
  const { used } = gpu.memory;
  const ba = await render(b, a);
  assert(ab.data.some((v, i) => v !== ba.data[i]), "the negative prompt's embeddings do not count");
  assertEquals((await render(a, b)).data, ab.data);
  assertEquals(gpu.memory.used, used);
  pipeline.close();
});

testNarrow("pipeline: each stage begins with no idle buffers of the one before", async (dir, gpu) => {
  const pipeline = await VideoPipeline.load(dir, { gpu });
  const idle = new Map<string, number>();
  await pipeline.generate({
    prompt: "",
    width: 64,
    height: 64,
    frames: 5,
    steps: 1,
    guidance: 1,
    embeddings: { positive: randn(8 * 32, 1) },
    onProgress: ({ stage, done }) => {
      if (done === 0) idle.set(stage, gpu.memory.held - gpu.memory.used);
    },
  });
  pipeline.close();
  assertEquals(idle.get("denoise"), 0);
  assertEquals(idle.get("decode"), 0);
});

for (
  const [what, changes] of [
    ["frames in one patch", { transformer: { patch_size: [2, 2, 2] } }],
    ["patches of 3", { transformer: { patch_size: [1, 3, 3] } }],
    ["16x16 pixels in a latent", {
      vae: { dim_mult: [1, 1, 1, 1, 1], temperal_downsample: [false, false, true, true] },
    }],
    ["8 frames in a latent", { vae: { temperal_downsample: [true, true, true] } }],
  ] as [string, Changes][]
) {
  testNarrow(`pipeline: a model of ${what} is refused before its weights are read`, async (dir, gpu) => {
    await assertRejects(() => VideoPipeline.load(dir, { gpu }), TilereelError, "is not supported; Wan 2.1 has");
  }, changes);
}

function joined(parts: readonly Float32Array[]): Float32Array {
  return Float32Array.from(parts.flatMap((part) => [...part]));
}
