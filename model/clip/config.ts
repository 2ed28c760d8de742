import { readPartConfig } from "../checkpoint/open_part.ts";
import type { StoredFile } from "../files/store.ts";

/** The configuration of `CLIPTextModel`. */
export interface ClipTextConfig {
  readonly vocabSize: number;
  /** Channels of a token. */
  readonly dim: number;
  readonly ffnDim: number;
  readonly layers: number;
  readonly heads: number;
  /** The number of tokens that it has positions for. */
  readonly tokens: number;
  /** The token whose embedding is the prompt's. Undefined: that with the largest id, as in OpenAI's first files */
  readonly endToken: number | undefined;
  readonly eps: number;
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
  config.require("hidden_act", ["quick_gelu"], "quick_gelu");
  const dim = config.lengthOfFours("hidden_size", 512), ffnDim = config.lengthOfFours("intermediate_size", 2048);
  const heads = config.integer("num_attention_heads", 8), endToken = config.integer("eos_token_id", 49407, 0);
  if (dim % heads !== 0 || dim / heads > 128) throw config.unsupported("num_attention_heads", [dim / 64]);
  return {
    ...{ dim, ffnDim, heads, endToken: endToken === UNKNOWN_END_TOKEN ? undefined : endToken },
    vocabSize: config.integer("vocab_size", 49408),
    layers: config.integer("num_hidden_layers", 12),
    tokens: config.integer("max_position_embeddings", 77),
    eps: config.number("layer_norm_eps", 1e-5, { positive: true }),
  };
}
