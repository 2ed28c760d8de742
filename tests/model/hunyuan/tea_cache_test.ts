/** What TeaCache compares on HunyuanVideo, beside the formula of its authors' code, computed in float64. */
import type { BlockState } from "../../../model/cache/step_cache.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { TRANSFORMER_WEIGHTS } from "../../../model/hunyuan/weights.ts";
import { timestepEmbedding } from "../../../model/layers/timestep_embedding.ts";
import { assertEquals } from "@std/assert";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { LATENTS, POOLED_DIM, TEXT_DIM, TEXT_TOKENS, TINY, tinyModel } from "./tiny.ts";

const DIM = 64, TIMESTEP = 637, GUIDANCE = 6;
const pooled = randn(POOLED_DIM, 5);

const silu = (x: number) => x / (1 + Math.exp(-x));

/** [shift, scale] of the first block's attention: img_mod1 of img_mod(vec). */
async function shiftAndScale(): Promise<[Float64Array, Float64Array]> {
  using source = await openPart(TINY, TRANSFORMER_WEIGHTS);
  const linear = async (name: string, x: ArrayLike<number>) => {
    const weight = await readFloat32(source, `${name}.weight`), bias = await readFloat32(source, `${name}.bias`);
    return Float64Array.from(bias, (b, row) => {
      let sum = b;
      for (let i = 0; i < x.length; i++) sum += weight[row * x.length + i]! * x[i]!;
      return sum;
    });
  };
  const embedded = async (name: string, x: ArrayLike<number>) => {
    const hidden = (await linear(`time_text_embed.${name}.linear_1`, x)).map(silu);
    return await linear(`time_text_embed.${name}.linear_2`, hidden);
  };
  const sinusoids = (t: number) => timestepEmbedding([t], 256);
  const parts = [
    await embedded("timestep_embedder", sinusoids(TIMESTEP)),
    await embedded("guidance_embedder", sinusoids(1000 * GUIDANCE)),
    await embedded("text_embedder", pooled),
  ];
  const vector = parts[0]!.map((_, i) => silu(parts.reduce((sum, part) => sum + part[i]!, 0)));
  const made = await linear("transformer_blocks.0.norm1.linear", vector);
  return [made.subarray(0, DIM), made.subarray(DIM, 2 * DIM)];
}

testVariants("HunyuanVideo: TeaCache compares the modulated input of the first block", async ({ gpu, bound }) => {
  using tiny = await tinyModel();
  const [shift, scale] = await shiftAndScale(), video = 3 * 4 * 6;
  const conditioning = {
    text: gpu.upload(randn(TEXT_TOKENS * TEXT_DIM, 4), [1, TEXT_TOKENS, TEXT_DIM]),
    pooled: gpu.upload(pooled, [1, POOLED_DIM]),
    guidance: GUIDANCE,
  };
  const latents = gpu.upload(randn(LATENTS.reduce((a, b) => a * b), 6), LATENTS);
  for (const place of ["resident", "stream"] as const) {
    using model = await tiny.loadTransformer(gpu, { place });
    const seen: { x: Float32Array; modulated: Float32Array; shape: readonly number[] }[] = [];
    const predict = async (compares: boolean) => {
      const pass = {
        ...{ latents, timesteps: [TIMESTEP], conditioning },
        cache: {
          remaining: async ({ layer, x, modulatedInput }: BlockState) => {
            if (layer > 0 || !compares) return undefined;
            const modulated = (await modulatedInput())!;
            seen.push({ x: await gpu.read(x), modulated: await gpu.read(modulated), shape: modulated.shape });
            return undefined;
          },
        },
      };
      const [velocity] = await model.predict([pass]), numbers = await gpu.read(velocity!);
      gpu.release(velocity!);
      return numbers;
    };
    const plain = await predict(false), { used } = gpu.memory;
    // To look at it changes nothing, and leaves nothing behind.
    assertEquals(await predict(true), plain);
    assertEquals(gpu.memory.used, used);
    const [{ x, modulated, shape }] = seen as [typeof seen[0]];
    assertEquals(shape, [1, video, DIM]);
    const expected = new Float64Array(video * DIM);
    for (let token = 0; token < video; token++) {
      const row = Float64Array.from(x.subarray(token * DIM, (token + 1) * DIM));
      const mean = row.reduce((a, b) => a + b) / DIM;
      const deviation = Math.sqrt(row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / DIM + 1e-6);
      row.forEach((value, i) => expected[token * DIM + i] = (value - mean) / deviation * (1 + scale[i]!) + shift[i]!);
    }
    assertClose(modulated, Float32Array.from(expected), bound);
  }
  for (const tensor of [latents, conditioning.text, conditioning.pooled]) gpu.release(tensor);
});
