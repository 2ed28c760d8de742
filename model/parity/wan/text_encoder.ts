import type { Gpu } from "../../../gpu/gpu.ts";
import { openModelFolder } from "../../checkpoint/model_folder.ts";
import { onnxTextEncoder } from "../../onnx/text_encoder.ts";
import type { TextEncoder } from "../../text_encoder.ts";
import { cleanPrompt } from "../../wan/prompt.ts";
import { loadTokenizer } from "../../tokenizer/tokenizer.ts";
import { readUmt5Config } from "../../umt5/config.ts";
import { openUmt5Encoder, Umt5Encoder } from "../../umt5/encoder.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { UMT5_WEIGHTS } from "../../umt5/block.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";

/** `demo_text_encoder.safetensors`: prompts to embeddings, by the model's encoder and its ONNX twin, if any. */
export const demoTextEncoder: ParityCase = {
  matches: /^demo_text_encoder\.safetensors$/,
  async *run(path, { gpus, model }): AsyncIterable<Check> {
    using references = await References.open(path);
    const textDim = references.source.info("prompt_embeds").shape.at(-1)!;
    const folder = await openModelFolder(model);
    const tokenizer = await loadTokenizer(await folder.component("tokenizer"));
    const prompts = references.setting<string[]>("texts")
      .map((text) => tokenizer.encode(cleanPrompt(text), references.setting<number>("max_sequence_length")));
    const encoderFolder = await folder.component("text_encoder");
    const compare = async function* (what: string, gpu: Gpu, encoder: TextEncoder): AsyncIterable<Check> {
      const { text } = await encoder.encode(prompts), reference = "prompt_embeds";
      yield* new Checks(path, gpu, references).rows(what, BOUNDS.demoTextEncoder, text!, { reference });
      gpu.release(text!);
      encoder[Symbol.dispose]();
    };
    for (const gpu of gpus) {
      yield* compare("prompt_embeds", gpu, await openUmt5Encoder(gpu, encoderFolder, textDim));
    }
    const onnx = encoderFolder.file("model.onnx");
    if (await onnx.kind() === "file") {
      yield* compare("prompt_embeds by onnx", gpus[0], await onnxTextEncoder(onnx)(gpus[0], textDim));
    }
  },
};

/** Folders `tiny_umt5*`: a small encoder of their own on a batch with padding. */
export const tinyUmt5: ParityCase = {
  matches: /^tiny_umt5/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(`${path}/reference.safetensors`);
    const [batch, tokens] = references.source.info("input_ids").shape as [number, number];
    const ids = Int32Array.from(await references.read("input_ids"));
    const mask = await references.read("attention_mask");
    const prompts = Array.from({ length: batch }, (_, b) => ({
      ids: ids.slice(b * tokens, (b + 1) * tokens),
      length: mask.slice(b * tokens, (b + 1) * tokens).filter((m) => m !== 0).length,
    }));
    const config = await readUmt5Config(`${path}/config.json`);
    for (const gpu of gpus) {
      const encoder = new Umt5Encoder(gpu, config, await openPart(path, UMT5_WEIGHTS));
      const hidden = await encoder.lastHiddenState(prompts);
      yield* new Checks(path, gpu, references).rows("last_hidden_state", BOUNDS.tinyUmt5, hidden);
      gpu.release(hidden);
      encoder[Symbol.dispose]();
    }
  },
};
