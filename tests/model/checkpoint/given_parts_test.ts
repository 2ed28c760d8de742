import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { writeRandomCheckpoint } from "../../../bench/full_size/checkpoint.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { Config } from "../../../model/checkpoint/json.ts";
import { openModel, openModelFolder } from "../../../model/checkpoint/model_folder.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import type { GivenParts } from "../../../model/checkpoint/part_place.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { memoryFile, memoryFolder } from "../../../model/files/memory.ts";
import { modelIdentity, modelKey } from "../../../model/identity/model_identity.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import { configFromShapes, transformerConfig } from "../../../model/wan/config.ts";
import { TRANSFORMER_WEIGHTS } from "../../../model/wan/weights.ts";
import { randn, testOnGpu } from "../../gpu.ts";
import { inTempDir, MODEL } from "../../process.ts";
import { filesIn } from "../files/files_in.ts";
import { originalName } from "./original_name.ts";

const TINY = new URL("../../fixtures/tiny_hd128", import.meta.url).pathname;
const VAE = { base_dim: 8, num_res_blocks: 1 };
const TRANSFORMER = { num_attention_heads: 1, num_layers: 2, ffn_dim: 96, text_dim: 48, cross_attn_norm: true };

/** Writes a transformer as one file. */
async function writeSingleFile(folder: string, file: string, name: (name: string) => string): Promise<void> {
  using stored = await openPart(folder, TRANSFORMER_WEIGHTS);
  const tensors = await Promise.all(
    stored.names().map(async (one) => {
      const { dtype, shape } = stored.info(one);
      return [name(one), { dtype, shape, data: await stored.read(one) }] as const;
    }),
  );
  await writeSafetensors(file, Object.fromEntries(tensors));
}

Deno.test("a transformer's shapes say what its config.json says", async () => {
  const config = await Config.read(`${TINY}/config.json`), none = new Config("", {});
  using weights = await openPart(TINY, TRANSFORMER_WEIGHTS);
  const from = (config: Config) => transformerConfig(new Config("", configFromShapes(weights, config)));
  assertEquals(from(none), transformerConfig(config));
  using demo = await openPart(`${MODEL}/transformer`, TRANSFORMER_WEIGHTS);
  const demoConfig = await Config.read(`${MODEL}/transformer/config.json`);
  const overlaid = { ...demoConfig.values, ...configFromShapes(demo, demoConfig) };
  assertEquals(transformerConfig(new Config("", overlaid)), transformerConfig(demoConfig));
});

testOnGpu("a transformer and a VAE as single files give what their folders give", (gpu) =>
  inTempDir(async (dir) => {
    const wanted = `${dir}/wanted`, base = `${dir}/base`;
    await writeRandomCheckpoint(wanted, { transformer: TRANSFORMER, vae: VAE });
    // Another transformer, of other shapes.
    await writeRandomCheckpoint(base, { transformer: { ...TRANSFORMER, num_layers: 1, ffn_dim: 64 }, vae: VAE });
    const sample = async (model: string, parts?: GivenParts) => {
      const pipeline = await VideoPipeline.load(model, { gpu, parts });
      const clip = { width: 32, height: 32, frames: 5, steps: 1, guidance: 1 };
      const { data } = await pipeline.generate({ prompt: "", ...clip, embeddings: { positive: randn(5 * 48, 1) } });
      pipeline.close();
      return data;
    };
    const video = await sample(wanted);
    assertNotEquals(await sample(base), video);
    const transformer = `${dir}/wan2.1_t2v.safetensors`, vae = `${wanted}/vae/diffusion_pytorch_model.safetensors`;
    await writeSingleFile(`${wanted}/transformer`, transformer, originalName);
    assertEquals(await sample(base, { transformer }), video);
    assertEquals(await sample(base, { transformer: `${wanted}/transformer`, vae }), video);
    // A folder that has no transformer, and a file in memory.
    await Deno.remove(`${base}/transformer`, { recursive: true });
    const bytes = await Deno.readFile(transformer);
    assertEquals(await sample(base, { transformer: memoryFile("dropped.safetensors", bytes) }), video);
    await assertRejects(() => sample(base), TilereelError, "has no folder transformer");
  }));

Deno.test("parts that cannot be used are refused", async () => {
  const refused = (parts: GivenParts, message: string) =>
    assertRejects(() => openModel(MODEL, parts), TilereelError, message);
  const vae = `${MODEL}/vae/diffusion_pytorch_model.safetensors`;
  await refused({ clip: vae }, 'cannot be used with a part "clip": the parts of Wan 2.1 are transformer, vae,');
  await refused({ vae: "no.safetensors" }, "no.safetensors does not exist; the vae was expected");
  await refused({ scheduler: `${MODEL}/model_index.json` }, "model_index.json is a file, but a folder was expected");
  await refused({ transformer: vae }, `${vae} is a file with a VAE, but a transformer of Wan 2.1 was expected`);
  await refused(
    { transformer: `${MODEL}/model_index.json` },
    "is a JSON file, but a safetensors or GGUF file was expected",
  );
});

Deno.test("a given part counts by its contents, and a part that it replaces does not", () =>
  inTempDir(async (dir) => {
    const vae = `${MODEL}/vae/diffusion_pytorch_model.safetensors`, copy = `${dir}/copy.safetensors`;
    await Deno.copyFile(vae, copy);
    const identity = async (parts: GivenParts) => await modelIdentity(await openModelFolder(MODEL, parts));
    const key = async (parts: GivenParts) => await modelKey(await openModelFolder(MODEL, parts));
    const { vae: name, vaeDigest, modelDigest } = await identity({ vae: copy });
    assertEquals(name, "copy.safetensors");
    assertEquals(await key({ vae: copy }), await key({ vae }));
    assert((await identity({})).modelDigest !== modelDigest);
    const bytes = await Deno.readFile(vae);
    bytes[bytes.length - 1]! ^= 1;
    await Deno.writeFile(copy, bytes);
    const other = await identity({ vae: copy });
    assertEquals(other.modelDigest, modelDigest);
    assert(other.vaeDigest !== vaeDigest && await key({ vae: copy }) !== await key({ vae }));
    const folder = memoryFolder(await filesIn(`${MODEL}/tokenizer`), "words");
    assertEquals((await identity({ tokenizer: folder })).tokenizer, "words");
  }));
