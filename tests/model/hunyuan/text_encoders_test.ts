import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { openSafetensors, readFloat32, toNumbers } from "../../../model/checkpoint/safetensors.ts";
import type { TensorSource } from "../../../model/checkpoint/tensor_source.ts";
import { TensorView } from "../../../model/checkpoint/tensor_view.ts";
import { CLIP_TEXT_WEIGHTS } from "../../../model/clip/text/weights.ts";
import { readClipTextConfig } from "../../../model/clip/text/config.ts";
import { ClipTextEncoder, openClipTextEncoder } from "../../../model/clip/text/encoder.ts";
import { LLAMA_WEIGHTS } from "../../../model/llama/block.ts";
import { readLlamaConfig } from "../../../model/llama/config.ts";
import { LlamaEncoder, openLlamaEncoder } from "../../../model/llama/encoder.ts";
import { assertClose, testVariants, type Variant } from "../../gpu.ts";
import { ROOT } from "../../process.ts";

const LLAMA = join(ROOT, "tests/fixtures/tiny_llama"), CLIP = join(ROOT, "tests/fixtures/tiny_clip_text");
/** Valid tokens of the reference's prompt. */
const VALID = 29;

/** The bound that a forward is held to. */
const boundOf = ({ gpu }: Variant) => gpu.f16 ? 1e-2 : 1e-5;

async function reference(folder: string, name: string) {
  using source = await openSafetensors(`${folder}/reference.safetensors`);
  const ids = Int32Array.from(toNumbers(await source.read("input_ids"), "I64"));
  return { ids, numbers: await readFloat32(source, name) };
}

/** The tiny LLaMA, with what is read of its weights noted. */
async function tinyLlama(gpu: Variant["gpu"], text: { skippedLayers: number; cropStart: number }) {
  const source = await openPart(LLAMA, LLAMA_WEIGHTS), read = new Set<string>();
  const noting = new Proxy(source, {
    get(target, key) {
      const value = target[key as keyof TensorSource];
      if (typeof value !== "function") return value;
      return (...given: [string]) => {
        if (String(key).startsWith("read")) read.add(given[0]);
        return (value as (...given: unknown[]) => unknown).apply(target, given);
      };
    },
  });
  return { encoder: new LlamaEncoder(gpu, await readLlamaConfig(`${LLAMA}/config.json`), noting, text), read };
}

testVariants("LLaMA: prompts of other lengths beside each other, and the template cut off", async (variant) => {
  const { gpu } = variant, { ids, numbers } = await reference(LLAMA, "hidden_states.-3");
  const cropStart = 7, { encoder, read } = await tinyLlama(gpu, { skippedLayers: 2, cropStart });
  void gpu.placeholder; // made now, so that it is no part of the difference
  const { used } = gpu.memory, other = { ids: ids.toReversed(), length: 11 };
  const { text, lengths } = await encoder.encode([other, { ids, length: VALID }]);
  assertEquals([text!.shape, lengths], [[2, ids.length - cropStart, 64], [11 - cropStart, VALID - cropStart]]);
  assertEquals(gpu.memory.used, used + text!.buffer.size);
  const values = (await gpu.read(text!)).subarray(text!.rowSize);
  assertClose(values, numbers.subarray(cropStart * 64), boundOf(variant), "the second prompt");
  // The last layers and the final norm are never read.
  assert(![...read].some((name) => /^layers\.[34]\.|^norm/.test(name)), [...read].join());
  assert(read.has("layers.2.mlp.down_proj.weight"));
  gpu.release(text!);
  encoder[Symbol.dispose]();
});

testVariants("LLaMA under the names that LLaVA has it by", async (variant) => {
  const { gpu } = variant, { ids, numbers } = await reference(LLAMA, "hidden_states.-3");
  const source = await openPart(LLAMA, LLAMA_WEIGHTS);
  const names = source.names().map((name) => [`language_model.model.${name}`, name] as const);
  const stored = names.map(([llava, name]) => [LLAMA_WEIGHTS.names!(llava) as string, { source, name }] as const);
  const view = new TensorView(source.path, new Map(stored), [source]);
  const config = await readLlamaConfig(`${LLAMA}/config.json`);
  const encoder = new LlamaEncoder(gpu, config, view, { skippedLayers: 2, cropStart: 0 });
  const hidden = await encoder.hiddenState([{ ids, length: VALID }]);
  assertClose(await gpu.read(hidden), numbers, boundOf(variant));
  gpu.release(hidden);
  encoder[Symbol.dispose]();
});

testVariants("CLIP: each prompt's vector is that of its first end token", async (variant) => {
  const { gpu } = variant, { ids, numbers } = await reference(CLIP, "pooler_output");
  const config = await readClipTextConfig(`${CLIP}/config.json`), end = config.endToken!;
  const other = ids.with(3, 57).with(9, end);
  // The first files have no end token: it is the one with the largest id.
  for (const endToken of [end, undefined]) {
    const encoder = new ClipTextEncoder(gpu, { ...config, endToken }, await openPart(CLIP, CLIP_TEXT_WEIGHTS));
    const prompts = [other, ids].map((ids) => ({ ids, length: 20 }));
    const { used } = gpu.memory, { pooled } = await encoder.encode(prompts);
    assertEquals(pooled.shape, [2, 48]);
    assertEquals(gpu.memory.used, used + pooled.buffer.size);
    const hidden = await encoder.lastHiddenState(prompts), all = await gpu.read(hidden);
    const [first, second] = [0, 1].map((i) => i * 48) as [number, number], vectors = await gpu.read(pooled);
    assertClose(vectors.subarray(second), numbers, boundOf(variant));
    assertClose(vectors.subarray(first, second), all.subarray(9 * 48, 10 * 48), 0);
    for (const tensor of [pooled, hidden]) gpu.release(tensor);
    encoder[Symbol.dispose]();
  }
});

testVariants("what does not belong together is refused", async ({ gpu }) => {
  const text = { skippedLayers: 2, cropStart: 30 };
  await assertRejects(() => openLlamaEncoder(gpu, LLAMA, 128, text), TilereelError, "64 channels");
  await assertRejects(() => openClipTextEncoder(gpu, CLIP, 768), TilereelError, "48 channels");
  const llama = await openLlamaEncoder(gpu, LLAMA, 64, text), ids = new Int32Array(40);
  await assertRejects(() => llama.encode([{ ids, length: 30 }]), TilereelError, "fewer than 31 tokens");
  const clip = await openClipTextEncoder(gpu, CLIP, 48);
  await assertRejects(() => clip.encode([{ ids, length: 30 }]), TilereelError, "at most 32 tokens");
  for (const encoder of [llama, clip]) encoder[Symbol.dispose]();
});

Deno.test("configurations of both encoders, in old files and new ones", async () => {
  const dir = await Deno.makeTempDir(), file = `${dir}/config.json`;
  try {
    const write = (config: object) => Deno.writeTextFile(file, JSON.stringify(config));
    // Of LLaVA-Llama-3-8B, as transformers 4 wrote it.
    const llama = {
      ...{ model_type: "llama", hidden_size: 4096, intermediate_size: 14336, num_attention_heads: 32 },
      ...{ num_key_value_heads: 8, num_hidden_layers: 32, rms_norm_eps: 1e-5, rope_theta: 500000, vocab_size: 128320 },
      ...{ rope_scaling: null, hidden_act: "silu" },
    };
    await write(llama);
    assertEquals(await readLlamaConfig(file), {
      ...{ vocabSize: 128320, dim: 4096, ffnDim: 14336, layers: 32, heads: 32, keyHeads: 8, headDim: 128 },
      ...{ theta: 500000, eps: 1e-5 },
    });
    assertEquals((await readLlamaConfig(`${LLAMA}/config.json`)).theta, 500000);
    for (
      const [change, message] of [
        [{ model_type: "qwen2" }, "model_type"],
        [{ rope_scaling: { rope_type: "llama3", factor: 8 } }, "rope_scaling"],
        [{ rope_parameters: { rope_type: "llama3", rope_theta: 500000 } }, "rope_parameters: rope_type"],
        [{ num_key_value_heads: 5 }, "num_key_value_heads 5"],
        [{ num_attention_heads: 48, num_key_value_heads: 8 }, "head_dim"],
        [{ attention_bias: true }, "attention_bias"],
      ] as const
    ) {
      await write({ ...llama, ...change });
      await assertRejects(() => readLlamaConfig(file), TilereelError, message);
    }
    // Of CLIP-L, whose first files say of its end token that it is 2.
    const clip = {
      ...{ model_type: "clip_text_model", hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12 },
      ...{ num_hidden_layers: 12, hidden_act: "quick_gelu", eos_token_id: 2, vocab_size: 49408 },
    };
    await write(clip);
    assertEquals(await readClipTextConfig(file), {
      ...{ vocabSize: 49408, dim: 768, ffnDim: 3072, layers: 12, heads: 12, tokens: 77, eps: 1e-5 },
      ...{ endToken: undefined, activation: "quick_gelu" },
    });
    assertEquals((await readClipTextConfig(`${CLIP}/config.json`)).endToken, 119);
    await write({ ...clip, hidden_act: "relu" });
    await assertRejects(() => readClipTextConfig(file), TilereelError, "hidden_act");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
