import { openCheckpoint } from "../model/checkpoint/sharded.ts";
import { WanPipeline } from "../model/pipeline.ts";
import { readTransformerConfig } from "../model/wan/config.ts";
import { WanTransformer3DModel } from "../model/wan/transformer.ts";
import { writeRandomCheckpoint } from "../bench/full_size/checkpoint.ts";
import { assert, assertEquals } from "@std/assert";
import { assertClose, randn, testVariants, variants } from "./gpu.ts";

/** Rows of 128 bytes: with odd counts of them, batch items begin where no buffer can be bound. */
const NARROW = {
  transformer: { num_attention_heads: 1, attention_head_dim: 32, num_layers: 1, ffn_dim: 64, text_dim: 32 },
  vae: { base_dim: 8, num_res_blocks: 1 },
};

async function withNarrowModel(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await writeRandomCheckpoint(dir, NARROW);
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
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
        const hiddenStates = gpu.upload(joined(items.map((i) => latents[i]!)), [items.length, 16, 3, 2, 2]);
        const textEmbeddings = gpu.upload(joined(items.map((i) => texts[i]!)), [items.length, 5, 32]);
        const y = transformer.forward({ hiddenStates, timesteps: items.map((i) => timesteps[i]!), textEmbeddings });
        const velocity = await gpu.read(y);
        for (const tensor of [hiddenStates, textEmbeddings, y]) gpu.release(tensor);
        return velocity;
      };
      const alone = [await forward([0]), await forward([1]), await forward([2])];
      assertClose(await forward([0, 1, 2]), joined(alone), bound);
      transformer.release();
    }),
);

Deno.test({
  name: "pipeline: embeddings of any length, with guidance",
  sanitizeOps: false,
  sanitizeResources: false,
  fn: () =>
    withNarrowModel(async (dir) => {
      const { gpu } = (await variants())[0]!;
      const pipeline = await WanPipeline.load(dir, { gpu });
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
    }),
});

function joined(parts: readonly Float32Array[]): Float32Array {
  return Float32Array.from(parts.flatMap((part) => [...part]));
}
