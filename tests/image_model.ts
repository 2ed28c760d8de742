/** A small model that takes pictures and can be given prompts: none of the fixtures has a text encoder. */
import { join } from "node:path";
import type { TensorToWrite } from "../model/checkpoint/write_safetensors.ts";
import { writeSafetensors } from "../model/checkpoint/write_safetensors.ts";
import { tensorsOf } from "./model/checkpoint/loose_files.ts";
import { MODEL, ROOT } from "./process.ts";

const FIXTURE = join(ROOT, "tests/fixtures/tiny_wan_a14b_pipeline");
/** The values of a token's embedding by the demo model's text encoder, and the layer that takes them. */
const TEXT_DIM = 128, TEXT_LAYER = "condition_embedder.text_embedder.linear_1.weight";

/** Writes the tiny Wan 2.2 I2V A14B with the demo model's text encoder, and small clips as its defaults. */
export async function writeImageModel(model: string): Promise<void> {
  await Deno.mkdir(model);
  for (const name of ["vae", "scheduler"]) await Deno.symlink(join(FIXTURE, name), join(model, name));
  for (const name of ["tokenizer", "text_encoder"]) await Deno.symlink(join(MODEL, name), join(model, name));
  for (const name of ["transformer", "transformer_2"]) await widen(name, join(model, name));
  const index = JSON.parse(await Deno.readTextFile(join(FIXTURE, "model_index.json")));
  const parts = { tokenizer: ["transformers", "T5TokenizerFast"], text_encoder: ["transformers", "UMT5EncoderModel"] };
  await Deno.writeTextFile(join(model, "model_index.json"), JSON.stringify({ ...index, ...parts }));
  const defaults = { width: 48, height: 32, frames: 5, steps: 2 };
  await Deno.writeTextFile(join(model, "generation.json"), JSON.stringify(defaults));
}

/** Makes a transformer take the wider embeddings: it sees the first values of them. */
async function widen(name: string, folder: string): Promise<void> {
  await Deno.mkdir(folder);
  const config = JSON.parse(await Deno.readTextFile(join(FIXTURE, name, "config.json")));
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify({ ...config, text_dim: TEXT_DIM }));
  const tensors = await tensorsOf(join(FIXTURE, name), "diffusion_pytorch_model");
  const { dtype, shape: [rows, columns], data } = tensors[TEXT_LAYER] as TensorToWrite & { data: Uint8Array };
  const row = data.byteLength / rows!, width = row / columns! * TEXT_DIM, wide = new Uint8Array(rows! * width);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  for (let i = 0; i < rows!; i++) wide.set(bytes.subarray(i * row, (i + 1) * row), i * width);
  const widened = { ...tensors, [TEXT_LAYER]: { dtype, shape: [rows!, TEXT_DIM], data: wide } };
  await writeSafetensors(join(folder, "diffusion_pytorch_model.safetensors"), widened);
}
