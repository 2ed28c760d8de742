import { openClipTextEncoder } from "../clip/text/encoder.ts";
import { openLlamaEncoder } from "../llama/encoder.ts";
import type { TextEncoderPart } from "../prompt_encoder.ts";
import { fixText } from "../tokenizer/fix_text.ts";

/** What stands before a prompt and behind it. LLaMA is asked to describe the video. */
const BEFORE = "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: " +
  "1. The main content and theme of the video." +
  "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects." +
  "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects." +
  "4. background environment, light, style and atmosphere." +
  "5. camera angles, movements, and transitions used in the video:<|eot_id|>" +
  "<|start_header_id|>user<|end_header_id|>\n\n";
const BEHIND = "<|eot_id|>";

/** The tokens of the text before the prompt, the start token included, and the last layers of LLaMA that are left out. */
const LLAMA_TEXT = { cropStart: 95, skippedLayers: 2 };

const CLIP_TOKENS = 77;

/** Writes a prompt into HunyuanVideo's template. */
export function promptInTemplate(prompt: string): string {
  return `${BEFORE}${prompt}${BEHIND}`;
}

/**
 * HunyuanVideo's text encoders: LLaMA makes the text, and CLIP makes one vector of each prompt.
 *
 * @param dims channels that the transformer takes
 */
export function hunyuanEncoders(dims: { readonly textDim: number; readonly pooledDim: number }): TextEncoderPart[] {
  return [
    {
      ...{ tokenizer: "tokenizer", encoder: "text_encoder", prepare: promptInTemplate },
      tokens: (textTokens) => textTokens + LLAMA_TEXT.cropStart,
      open: (gpu, folder, options) => openLlamaEncoder(gpu, folder, dims.textDim, LLAMA_TEXT, options),
    },
    {
      // transformers' tokenizer of CLIP fixes text where ftfy is installed. White space and case are the tokenizer's.
      ...{ tokenizer: "tokenizer_2", encoder: "text_encoder_2", prepare: fixText },
      tokens: () => CLIP_TOKENS,
      open: (gpu, folder, options) => openClipTextEncoder(gpu, folder, dims.pooledDim, options),
    },
  ];
}
