import { assert, assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { openSafetensors, readFloat32, toNumbers } from "../../model/checkpoint/safetensors.ts";
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import type { TensorSource } from "../../model/checkpoint/tensor_source.ts";
import type { TokenizedPrompt } from "../../model/text_encoder.ts";
import { cleanPrompt } from "../../model/wan/prompt.ts";
import { loadTokenizer } from "../../model/tokenizer/tokenizer.ts";
import { readUmt5Config } from "../../model/umt5/config.ts";
import { openUmt5Encoder, Umt5Encoder } from "../../model/umt5/encoder.ts";
import { relativeBuckets } from "../../model/umt5/relative_buckets.ts";
import { assertClose, testVariants, type Variant } from "../gpu.ts";

const DEMO = new URL("../../model/demo", import.meta.url).pathname;
const FIXTURES = new URL("../fixtures", import.meta.url).pathname;
const TINY = `${FIXTURES}/tiny_umt5`;

/** The bound that a forward is held to. */
const boundOf = ({ name }: Variant) => name === "tiled f16" ? 5e-3 : 1e-4;

/** The token ids and result of tests/fixtures/tiny_umt5. */
async function tinyReference() {
  using source = await openSafetensors(`${TINY}/reference.safetensors`);
  const [batch, tokens] = source.info("input_ids").shape as [number, number];
  const ids = Int32Array.from(toNumbers(await source.read("input_ids"), "I64"));
  const mask = toNumbers(await source.read("attention_mask"), "I64");
  const prompts = Array.from({ length: batch }, (_, i): TokenizedPrompt => ({
    ids: ids.slice(i * tokens, (i + 1) * tokens),
    length: mask.slice(i * tokens, (i + 1) * tokens).reduce((sum, m) => sum + m, 0),
  }));
  return { prompts, tokens, lastHiddenState: await readFloat32(source, "last_hidden_state") };
}

/** The tiny encoder on a source that passes through `change`. */
async function tinyEncoder(gpu: Gpu, change: (source: TensorSource) => Partial<TensorSource> = () => ({})) {
  const source = await openCheckpoint(TINY, "model");
  const methods = ["info", "has", "names", "read", "readRange", "readRows", "close"] as const;
  const passed = Object.fromEntries(methods.map((name) => [name, source[name].bind(source)]));
  const changed = { path: source.path, ...passed, ...change(source) } as unknown as TensorSource;
  return new Umt5Encoder(gpu, await readUmt5Config(`${TINY}/config.json`), changed);
}

testVariants("the demo's text embeddings are the pipeline's", async (variant) => {
  const { gpu } = variant;
  using fixture = await openSafetensors(`${FIXTURES}/demo_text_encoder.safetensors`);
  const texts: string[] = JSON.parse(fixture.metadata.texts!);
  const tokens = Number(fixture.metadata.max_sequence_length);
  const tokenizer = await loadTokenizer(`${DEMO}/tokenizer`);
  const prompts = texts.map((text) => tokenizer.encode(cleanPrompt(text), tokens));
  const encoder = await openUmt5Encoder(gpu, `${DEMO}/text_encoder`, 128);
  void gpu.placeholder; // made now, so that it is no part of the difference
  const { used } = gpu.memory;
  const { text: embeddings } = await encoder.encode(prompts);
  encoder[Symbol.dispose]();
  assertEquals([...embeddings.shape], [texts.length, tokens, 128]);
  assertEquals(gpu.memory.used, used + embeddings.buffer.size);
  const values = await gpu.read(embeddings);
  assertClose(values, await readFloat32(fixture, "prompt_embeds"), boundOf(variant), "text embeddings");
  for (const [i, { length }] of prompts.entries()) {
    const padding = values.subarray((i * tokens + length) * 128, (i + 1) * tokens * 128);
    assert(padding.every((value) => value === 0), `embeddings of prompt ${i} go on past its end`);
  }
  gpu.release(embeddings);
});

testVariants("a batch of long prompts, padding included", async (variant) => {
  const { gpu } = variant;
  const { prompts, tokens, lastHiddenState } = await tinyReference();
  const encoder = await openUmt5Encoder(gpu, TINY, 64);
  const hidden = await encoder.lastHiddenState(prompts);
  const values = await gpu.read(hidden);
  for (let i = 0; i < prompts.length; i++) {
    const rows = [i * tokens * 64, (i + 1) * tokens * 64] as const;
    assertClose(values.subarray(...rows), lastHiddenState.subarray(...rows), boundOf(variant), `prompt ${i}`);
  }
  gpu.release(hidden);
  encoder[Symbol.dispose]();
});

testVariants("one block's weights at a time, and only the embeddings in use", async ({ gpu }) => {
  const { prompts } = await tinyReference();
  const rows = new Set<number>();
  const loading: number[] = [];
  const encoder = await tinyEncoder(gpu, (source) => ({
    readRange: (name, start, length) => {
      assert(name !== "shared.weight", "the embedding table was read whole");
      if (name.endsWith("layer.0.layer_norm.weight")) loading.push(gpu.memory.used);
      return source.readRange(name, start, length);
    },
    readRows: (name, wanted) => {
      const list = [...wanted];
      for (const row of list) rows.add(row);
      return source.readRows(name, list);
    },
  }));
  const progress: string[] = [];
  const used = gpu.memory.used;
  const { text: hidden } = await encoder.encode(prompts, {
    onProgress: ({ stage, done, total }) => progress.push(`${stage} ${done}/${total}`),
  });
  assertEquals(progress, [0, 1, 2, 3].map((done) => `encode prompt ${done}/3`));
  assertEquals(loading.length, 3);
  const growth = Math.max(...loading) - Math.min(...loading), blockBytes = 4 * (4 * 64 * 64 + 3 * 64 * 96);
  assert(growth < blockBytes / 2, `${growth} bytes more were held when a later block was loaded`);
  assertEquals(gpu.memory.used, used + hidden.buffer.size);
  assertEquals([...rows].sort(), [...new Set(prompts.flatMap(({ ids }) => [...ids]))].sort());
  gpu.release(hidden);
  encoder[Symbol.dispose]();
});

testVariants("an embedding table under its other name", async ({ gpu }) => {
  const prompt = { ids: Int32Array.of(5, 6, 1, 0), length: 3 };
  const stored = (name: string) => name === "encoder.embed_tokens.weight" ? "shared.weight" : name;
  const plain = await tinyEncoder(gpu);
  const renamed = await tinyEncoder(gpu, (source) => ({
    has: (name) => name !== "shared.weight" && source.has(stored(name)),
    info: (name) => source.info(stored(name)),
    readRows: (name, rows) => source.readRows(stored(name), rows),
  }));
  const { text: a } = await plain.encode([prompt]), { text: b } = await renamed.encode([prompt]);
  assertEquals(await gpu.read(a), await gpu.read(b));
  for (const tensor of [a, b]) gpu.release(tensor);
  for (const encoder of [plain, renamed]) encoder[Symbol.dispose]();
});

testVariants("what does not belong together is refused", async ({ gpu }) => {
  await assertRejects(
    () => openUmt5Encoder(gpu, TINY, 128),
    TilereelError,
    "64 channels, but the transformer takes 128",
  );
  const used = gpu.memory.used;
  const encoder = await tinyEncoder(gpu);
  const foreign = { ids: Int32Array.of(300, 1), length: 2 };
  await assertRejects(() => encoder.encode([foreign]), TilereelError, "token 300");
  encoder[Symbol.dispose]();

  const broken = await tinyEncoder(gpu, (source) => ({
    info: (name) => ({
      ...source.info(name),
      ...(name.endsWith("block.1.layer.1.DenseReluDense.wo.weight") && { shape: [96, 64] }),
    }),
  }));
  await assertRejects(() => broken.encode([{ ids: Int32Array.of(1), length: 1 }]), TilereelError, "block.1");
  broken[Symbol.dispose]();
  assertEquals(gpu.memory.used, used, "memory is still held after a failure");
});

Deno.test("relative positions share buckets as T5's do", () => {
  const tokens = 200, buckets = relativeBuckets(tokens, 32, 128);
  const at = (offset: number) => buckets[offset + tokens - 1];
  // One for each distance below 8; then ranges that begin at 8·16^(j/8), so at 16, 32 and 64 exactly.
  const begins = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
  for (const [bucket, begin] of begins.entries()) {
    const end = (begins[bucket + 1] ?? tokens) - 1;
    for (const distance of [begin, end]) {
      assertEquals(at(-distance), bucket, `distance ${-distance}`);
      if (distance > 0) assertEquals(at(distance), 16 + bucket, `distance ${distance}`);
    }
  }
});
