import { assert, assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { onnxTextEncoder } from "../../../model/onnx/text_encoder.ts";
import { cleanPrompt } from "../../../model/wan/prompt.ts";
import { loadTokenizer } from "../../../model/tokenizer/tokenizer.ts";
import { assertClose, variants } from "../../gpu.ts";

const DEMO = new URL("../../../model/demo", import.meta.url).pathname;
const FIXTURES = new URL("../../fixtures", import.meta.url).pathname;

/** y = x, of one axis. */
const NO_TEXT_ENCODER = "CAg6OQoQCgF4EgF5IghJZGVudGl0eRIBZ1oQCgF4EgsKCQgBEgUKAxIBbmIQCgF5EgsKCQgBEgUKAxIBbkIECgAQEQ==";
/** y = tokens + 100 · valid as [batch, tokens, 1]; tokens and valid are int64. */
const OTHER_NAMES =
  "CAg6wwEKEgoFdmFsaWQKAWsSAW0iA011bAoTCgZ0b2tlbnMKAW0SAXMiA0FkZAoXCgFzEgFmIgRDYXN0KgkKAnRvGAGgAQIKFAoBZgoBYRIB" +
  "eSIJVW5zcXVlZXplEgFnKgoIARAHOgECQgFhKggQBzoBZEIBa1oaCgZ0b2tlbnMSEAoOCAcSCgoDEgFiCgMSAXRaGQoFdmFsaWQSEAoOCAcSCgoDEgFi" +
  "CgMSAXRiGQoBeRIUChIIARIOCgMSAWIKAxIBdAoCCAFCBAoAEBE=";
/** y = input_ids + 100 · attention_mask; both int32, the mask first. */
const OTHER_ORDER =
  "CAg62wEKGwoOYXR0ZW50aW9uX21hc2sKAWsSAW0iA011bAoWCglpbnB1dF9pZHMKAW0SAXMiA0FkZAoXCgFzEgFmIgRDYXN0KgkKAnRvGAGg" +
  "AQIKFAoBZgoBYRIBeSIJVW5zcXVlZXplEgFnKgoIARAHOgECQgFhKggQBioBZEIBa1oiCg5hdHRlbnRpb25fbWFzaxIQCg4IBhIKCgMSAWIKAxIBdFod" +
  "CglpbnB1dF9pZHMSEAoOCAYSCgoDEgFiCgMSAXRiGQoBeRIUChIIARIOCgMSAWIKAxIBdAoCCAFCBAoAEBE=";

/** Devices outlive a test, so Deno must not count them as leaks. */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, sanitizeResources: false, sanitizeOps: false, fn });
}

/** Runs `use` on a file with these bytes. */
async function withFile(bytes: Uint8Array, use: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile({ suffix: ".onnx" });
  try {
    await Deno.writeFile(path, bytes);
    await use(path);
  } finally {
    await Deno.remove(path);
  }
}

async function openedGpu() {
  return (await variants())[0]!.gpu;
}

test("the demo's encoder as ONNX gives the pipeline's embeddings", async () => {
  const gpu = await openedGpu();
  using fixture = await openSafetensors(`${FIXTURES}/demo_text_encoder.safetensors`);
  const texts: string[] = JSON.parse(fixture.metadata.texts!);
  const tokens = Number(fixture.metadata.max_sequence_length);
  const tokenizer = await loadTokenizer(`${DEMO}/tokenizer`);
  const prompts = texts.map((text) => tokenizer.encode(cleanPrompt(text), tokens));
  const encoder = await onnxTextEncoder(`${DEMO}/text_encoder/model.onnx`)(gpu, 128);
  const progress: number[] = [];
  const { text } = await encoder.encode(prompts, {
    onProgress: ({ done, total }) => progress.push(done / total),
  });
  const embeddings = text!;
  assertEquals([...embeddings.shape], [texts.length, tokens, 128]);
  assertEquals([progress[0], progress.at(-1)], [0, 1]);
  const values = await gpu.read(embeddings);
  assertClose(values, await readFloat32(fixture, "prompt_embeds"), 1e-4, "text embeddings");
  for (const [i, { length }] of prompts.entries()) {
    const padding = values.subarray((i * tokens + length) * 128, (i + 1) * tokens * 128);
    assert(padding.every((value) => value === 0), `embeddings of prompt ${i} go on past its end`);
  }
  // Batch and length are free.
  const [first] = texts.map((text) => tokenizer.encode(cleanPrompt(text), 19));
  const shorter = await gpu.read((await encoder.encode([first!])).text!);
  assertClose(shorter, values.subarray(0, 19 * 128), 1e-4, "fewer tokens");
  gpu.release(embeddings);
  encoder[Symbol.dispose]();
});

for (const [name, model] of [["names", OTHER_NAMES], ["order and integers", OTHER_ORDER]] as const) {
  test(`inputs and outputs of other ${name}`, async () => {
    const gpu = await openedGpu();
    await withFile(Uint8Array.fromBase64(model), async (path) => {
      const encoder = await onnxTextEncoder(path)(gpu, 1);
      const prompts = [{ ids: Int32Array.of(7, 1, 0), length: 2 }, { ids: Int32Array.of(8, 9, 1), length: 3 }];
      const embeddings = (await encoder.encode(prompts)).text!;
      assertEquals([...await gpu.read(embeddings)], [107, 101, 0, 108, 109, 101]);
      gpu.release(embeddings);
      encoder[Symbol.dispose]();
    });
  });
}

test("files that are no text encoder for this model are refused", async () => {
  const gpu = await openedGpu();
  const refused = (path: string, says: string) =>
    assertRejects(() => onnxTextEncoder(path)(gpu, 128), TilereelError, says);
  await refused("/no/such/encoder.onnx", "/no/such/encoder.onnx does not exist");
  await withFile(
    new TextEncoder().encode("not a model"),
    (path) => refused(path, `${path} is a text file that begins "not a model", but an ONNX model was expected`),
  );
  await withFile(new Uint8Array(), (path) => refused(path, `${path} is empty, but an ONNX model was expected`));
  await withFile(Uint8Array.of(8, 8, 0x12, 200), (path) => refused(path, `${path} is not an ONNX model`));
  await withFile(Uint8Array.fromBase64(NO_TEXT_ENCODER), (path) => refused(path, "its inputs are x float32 [n]"));
  await withFile(Uint8Array.fromBase64(OTHER_NAMES), async (path) => {
    const encoder = await onnxTextEncoder(path)(gpu, 128);
    const prompts = [{ ids: Int32Array.of(7, 1), length: 2 }];
    await assertRejects(() => encoder.encode(prompts), TilereelError, "1 channels, but the transformer takes 128");
    encoder[Symbol.dispose]();
  });
});

test("a token that the encoder does not know", async () => {
  const gpu = await openedGpu();
  const encoder = await onnxTextEncoder(`${DEMO}/text_encoder/model.onnx`)(gpu, 128);
  const prompts = [{ ids: Int32Array.of(5000, 1), length: 2 }];
  await assertRejects(() => encoder.encode(prompts), TilereelError, "failed to encode the prompt");
  encoder[Symbol.dispose]();
});
