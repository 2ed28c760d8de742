import { writeRandomCheckpoint } from "../../../bench/full_size/checkpoint.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { memoryFolder } from "../../../model/files/memory.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import { transformersName } from "../../../model/umt5/original_names.ts";
import { TRANSFORMER_WEIGHTS } from "../../../model/wan/weights.ts";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { assertClose, randn, testOnGpu } from "../../gpu.ts";
import { inTempDir } from "../../process.ts";
import { originalName } from "./original_name.ts";
import { ggufBytes, type GgufTensor, quantisedQ8 } from "./gguf_bytes.ts";

const FOLDER = new URL("../../fixtures/gguf/", import.meta.url).pathname;

const f32 = (shape: readonly number[], values = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5)) => ({
  ...{ shape, type: 0 },
  data: new Uint8Array(values.buffer),
});

Deno.test("a GGUF file that ggml's library wrote", async () => {
  using file = await openCheckpoint(`${FOLDER}formats.gguf`, "");
  using expected = await openSafetensors(`${FOLDER}expected.safetensors`);
  assertEquals(file.names().toSorted(), expected.names().toSorted());
  assertEquals([file.metadata["general.architecture"], file.metadata["general.name"]], ["wan", "all formats"]);
  assertEquals(file.info("patch_embedding.weight").shape, [6, 4, 1, 2, 2]);
  for (const name of file.names()) {
    const { dtype, shape } = file.info(name);
    assertEquals(shape, expected.info(name).shape);
    if (name !== "patch_embedding.weight") assertEquals(`${dtype}.weight`, name);
    assertClose(await readFloat32(file, name), await readFloat32(expected, name), 1e-7, name);
  }
  const whole = await readFloat32(file, "Q6_K.weight"), rows = await readFloat32(file, "Q6_K.weight", [4, 1]);
  assertEquals([...rows], [...whole.subarray(4 * 768), ...whole.subarray(768, 2 * 768)]);
});

testOnGpu("a transformer as a GGUF file gives what its decoded numbers give", (gpu) =>
  inTempDir(async (dir) => {
    const model = `${dir}/model`;
    await writeRandomCheckpoint(model, {
      transformer: { num_attention_heads: 1, num_layers: 2, ffn_dim: 96, text_dim: 48, cross_attn_norm: true },
      vae: { base_dim: 8, num_res_blocks: 1 },
    });
    const quantised: Record<string, GgufTensor> = {}, decoded: Record<string, [readonly number[], Float32Array]> = {};
    {
      using stored = await openPart(`${model}/transformer`, TRANSFORMER_WEIGHTS);
      for (const name of stored.names()) {
        const { shape } = stored.info(name), values = await readFloat32(stored, name);
        const as = originalName(name);
        const blocks = shape.length === 2 && shape[1]! % 32 === 0 ? quantisedQ8(values) : undefined;
        quantised[as] = blocks ? { shape, type: 8, data: blocks.data } : f32(shape, values);
        decoded[name] = [shape, blocks?.values ?? values];
      }
    }
    assert(Object.values(quantised).filter(({ type }) => type === 8).length > 20);
    await Deno.writeFile(`${dir}/model-Q8_0.gguf`, ggufBytes(quantised));
    const tensors = Object.entries(decoded).map(([name, [shape, data]]) =>
      [name, { dtype: "F32", shape, data }] as const
    );
    await writeSafetensors(`${dir}/decoded.safetensors`, Object.fromEntries(tensors));
    const sample = async (transformer: string, weights: "resident" | "stream") => {
      const pipeline = await VideoPipeline.load(model, { gpu, parts: { transformer }, weights });
      const clip = { width: 32, height: 32, frames: 5, steps: 1, guidance: 1 };
      const { data } = await pipeline.generate({ prompt: "", ...clip, embeddings: { positive: randn(5 * 48, 1) } });
      pipeline.close();
      return data;
    };
    const wanted = await sample(`${dir}/decoded.safetensors`, "resident");
    assertEquals(await sample(`${dir}/model-Q8_0.gguf`, "resident"), wanted);
    assertEquals(await sample(`${dir}/model-Q8_0.gguf`, "stream"), wanted);
  }));

Deno.test("a text encoder's tensors have llama.cpp's names", () => {
  const names = {
    "token_embd.weight": "shared.weight",
    "enc.output_norm.weight": "encoder.final_layer_norm.weight",
    "enc.blk.12.attn_q.weight": "encoder.block.12.layer.0.SelfAttention.q.weight",
    "enc.blk.0.attn_rel_b.weight": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "enc.blk.3.attn_norm.weight": "encoder.block.3.layer.0.layer_norm.weight",
    "enc.blk.3.ffn_gate.weight": "encoder.block.3.layer.1.DenseReluDense.wi_0.weight",
    "enc.blk.3.ffn_up.weight": "encoder.block.3.layer.1.DenseReluDense.wi_1.weight",
    "enc.blk.3.ffn_down.weight": "encoder.block.3.layer.1.DenseReluDense.wo.weight",
    "enc.blk.3.ffn_norm.weight": "encoder.block.3.layer.1.layer_norm.weight",
  };
  assertEquals(Object.keys(names).map(transformersName), Object.values(names));
});

Deno.test("damaged, truncated and unknown GGUF files are refused in one sentence", async () => {
  const good = ggufBytes({ a: f32([2, 32]), b: f32([64]) });
  const refused = async (bytes: Uint8Array<ArrayBuffer>, message: string) => {
    const folder = memoryFolder({ "x.gguf": bytes });
    const error = await openCheckpoint(folder, "x").then((file) => file.close(), (error) => error);
    assert(error instanceof TilereelError, `${message}: ${error}`);
    assertStringIncludes(error.message, message);
    assert(error.message.includes("x.gguf") && !/\. |\p{Cc}/u.test(error.message), error.message);
  };
  using file = await openCheckpoint(memoryFolder({ "x.gguf": good }), "x");
  assertEquals([...await readFloat32(file, "b")], Array(64).fill(0.5));

  await refused(good.slice(0, good.length - 1), "is truncated: it has");
  await refused(good.slice(0, 20), "its version is 3");
  for (const end of [24, 40, 60, 100]) await refused(good.slice(0, end), "; copy or download it again");
  await refused(ggufBytes({ a: f32([4]) }, { version: 1 }), "its version is 1, not 2 or 3");
  await refused(ggufBytes({ a: f32([4]) }, { count: 1e9 }), "it would have 1000000000 tensors");
  await refused(ggufBytes({ a: f32([4]) }, { count: 90_000 }), "damaged");
  await refused(ggufBytes({ a: { ...f32([4]), type: 23 } }), '"a" is stored as IQ4_XS, which is not supported; use a');
  await refused(ggufBytes({ a: { ...f32([4]), type: 999 } }), '"a" is stored as type 999');
  await refused(ggufBytes({ a: { ...f32([4, 48]), type: 8 } }), 'the rows of tensor "a" [4, 48] are no whole blocks');
  await refused(ggufBytes({ a: { ...f32([4]), shape: [2 ** 31, 2 ** 31] } }), '"a" has the impossible shape');
  const same = ggufBytes({ aa: f32([4]), ab: f32([4]) });
  for (let i = 24; i < same.length; i++) if (same[i] === 0x61 && same[i + 1] === 0x62) same[i + 1] = 0x61;
  await refused(same, "two of its tensors have the same name");
});
