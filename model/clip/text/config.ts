import type { ClipShape } from "../block.ts";
import { clipShape } from "../shape.ts";
import { readPartConfig } from "../../checkpoint/open_part.ts";
import type { StoredFile } from "../../files/store.ts";

/** The configuration of `CLIPTextModel`. */
export interface ClipTextConfig extends ClipShape {
  readonly vocabSize: number;
  /** The number of tokens that it has positions for. */
  readonly tokens: number;
  /** The token whose embedding is the prompt's. Undefined: that with the largest id, as in OpenAI's first files */
  readonly endToken: number | undefined;
}

/** What files say whose configuration was written before the end token was known: see `CLIPTextTransformer`. */
const UNKNOWN_END_TOKEN = 2;

/**
 * Reads `config.json` of CLIP's text encoder in transformers' layout.
 *
 * @throws {TilereelError} if a value has the wrong type, or the model is another
 */
export async function readClipTextConfig(file: string | StoredFile): Promise<ClipTextConfig> {
  const config = await readPartConfig(file);
  config.require("model_type", ["clip_text_model"], "clip_text_model");
  const endToken = config.integer("eos_token_id", 49407, 0);
  return {
    ...clipShape(config, { dim: 512, ffnDim: 2048, layers: 12, heads: 8, activation: "quick_gelu" }),
    endToken: endToken === UNKNOWN_END_TOKEN ? undefined : endToken,
    vocabSize: config.integer("vocab_size", 49408),
    tokens: config.integer("max_position_embeddings", 77),
  };
}
