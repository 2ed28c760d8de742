import { join } from "node:path";
import { readEmbeddings } from "../../cli/generate/tensor_files.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { type TensorToWrite, writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { assertEquals, assertRejects } from "@std/assert";
import { inTempDir } from "../process.ts";

const MODEL = { textDim: 4, pooledDim: 3 };
const numbers = (...shape: number[]): TensorToWrite => ({
  ...{ dtype: "F32", shape, data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => i) },
});
const mask = (...values: number[]): TensorToWrite => ({
  ...{ dtype: "I64", shape: [1, values.length], data: BigInt64Array.from(values, BigInt) },
});

Deno.test("embeddings of a model that takes a prompt as one vector, too", () =>
  inTempDir(async (dir) => {
    const file = join(dir, "e.safetensors");
    const read = async (tensors: Record<string, TensorToWrite>) => {
      await writeSafetensors(file, tensors);
      return await readEmbeddings(file, MODEL);
    };
    const prompt = { prompt_embeds: numbers(1, 5, 4), pooled_prompt_embeds: numbers(1, 3) };
    const text = { data: numbers(20).data as Float32Array, shape: [1, 5, 4] };
    const pooled = { data: numbers(3).data as Float32Array, shape: [1, 3] };
    assertEquals(await read(prompt), { positive: { text, pooled } });
    const masked = { ...prompt, prompt_attention_mask: mask(1, 1, 1, 0, 0) };
    assertEquals(await read(masked), { positive: { text, pooled, textLength: 3 } });
    const negative = {
      negative_prompt_embeds: numbers(5, 4),
      negative_pooled_prompt_embeds: numbers(3),
      negative_prompt_attention_mask: mask(1, 0, 0, 0, 0),
    };
    assertEquals(await read({ ...masked, ...negative }), {
      positive: { text, pooled, textLength: 3 },
      negative: { text, pooled, textLength: 1 },
    });

    const rejects = (tensors: Record<string, TensorToWrite>, message: string) =>
      assertRejects(() => read(tensors), TilereelError, message);
    await rejects({ prompt_embeds: prompt.prompt_embeds }, 'has no tensor "pooled_prompt_embeds"');
    await rejects({ ...prompt, pooled_prompt_embeds: numbers(1, 5) }, "has 5 channels, but the transformer takes 3");
    await rejects({ ...prompt, pooled_prompt_embeds: numbers(2, 3) }, "has the shape [2, 3], but [channels] or");
    for (const wrong of [mask(1, 1, 1), mask(1, 0, 1, 0, 0), mask(0, 0, 0, 0, 0), mask(2, 1, 0, 0, 0)]) {
      await rejects({ ...prompt, prompt_attention_mask: wrong }, "is no mask of 5 tokens");
    }
  }));
