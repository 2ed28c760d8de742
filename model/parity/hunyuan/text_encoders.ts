import type { Gpu } from "../../../gpu/gpu.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { CLIP_TEXT_WEIGHTS } from "../../clip/text/weights.ts";
import { readClipTextConfig } from "../../clip/text/config.ts";
import { ClipTextEncoder } from "../../clip/text/encoder.ts";
import { LLAMA_WEIGHTS } from "../../llama/block.ts";
import { readLlamaConfig } from "../../llama/config.ts";
import { LlamaEncoder } from "../../llama/encoder.ts";
import type { TokenizedPrompt } from "../../text_encoder.ts";
import { BOUNDS, type Bounds } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";

/** Folders `tiny_llama*`: the output of the last layer but two, of a prompt with padding. */
export const tinyLlama: ParityCase = {
  matches: /^tiny_llama/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(`${path}/reference.safetensors`);
    const mask = await references.read("attention_mask");
    const prompt = { ids: await idsOf(references), length: mask.filter((valid) => valid !== 0).length };
    const config = await readLlamaConfig(`${path}/config.json`);
    for (const gpu of gpus) {
      const text = { skippedLayers: 2, cropStart: 0 };
      using encoder = new LlamaEncoder(gpu, config, await openPart(path, LLAMA_WEIGHTS), text);
      yield* compared(gpu, path, references, "hidden_states.-3", await encoder.hiddenState([prompt]), BOUNDS.tinyLlama);
    }
  },
};

/** Folders `tiny_clip_text*`: the embeddings of all tokens, and the prompt as one vector. */
export const tinyClipText: ParityCase = {
  matches: /^tiny_clip_text/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(`${path}/reference.safetensors`);
    const ids = await idsOf(references), prompts: TokenizedPrompt[] = [{ ids, length: ids.length }];
    const config = await readClipTextConfig(`${path}/config.json`);
    for (const gpu of gpus) {
      using encoder = new ClipTextEncoder(gpu, config, await openPart(path, CLIP_TEXT_WEIGHTS));
      const hidden = await encoder.lastHiddenState(prompts), bounds = BOUNDS.tinyClipText;
      yield* compared(gpu, path, references, "last_hidden_state", hidden, bounds);
      const { pooled } = await encoder.encode(prompts);
      yield* compared(gpu, path, references, "pooler_output", pooled, bounds);
    }
  },
};

async function idsOf(references: References): Promise<Int32Array> {
  return Int32Array.from(await references.read("input_ids"));
}

/** Compares a tensor, and frees it. */
async function* compared(
  gpu: Gpu,
  path: string,
  references: References,
  name: string,
  tensor: Tensor,
  bounds: Bounds,
): AsyncIterable<Check> {
  yield* new Checks(path, gpu, references).rows(name, bounds, tensor);
  gpu.release(tensor);
}
