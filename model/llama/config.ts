import { readPartConfig } from "../checkpoint/open_part.ts";
import { Config } from "../checkpoint/json.ts";
import type { StoredFile } from "../files/store.ts";

/** The configuration of `LlamaModel`. */
export interface LlamaConfig {
  readonly vocabSize: number;
  /** Channels of a token. */
  readonly dim: number;
  readonly ffnDim: number;
  readonly layers: number;
  readonly heads: number;
  /** Heads of keys and values, each shared by `heads / keyHeads` heads of queries. */
  readonly keyHeads: number;
  readonly headDim: number;
  /** The base of the frequencies of RoPE. */
  readonly theta: number;
  readonly eps: number;
}

/**
 * Reads `config.json` of a LLaMA in transformers' layout.
 *
 * @throws {TilereelError} if a value has the wrong type, or the model is another, such as LLaMA 3.1 with its scaled RoPE
 */
export async function readLlamaConfig(file: string | StoredFile): Promise<LlamaConfig> {
  const config = await readPartConfig(file);
  config.require("model_type", ["llama"], undefined);
  config.require("hidden_act", ["silu"], "silu");
  config.require("attention_bias", [false], false);
  config.require("mlp_bias", [false], false);
  config.require("rope_scaling", [null], null);
  // Since transformers 5 both are in one object.
  const rope = config.isNull("rope_parameters")
    ? config
    : Config.under("rope_parameters", config.value("rope_parameters"), config.path);
  rope.require("rope_type", ["default"], "default");

  const dim = config.lengthOfFours("hidden_size", 4096), heads = config.integer("num_attention_heads", 32);
  const keyHeads = config.isNull("num_key_value_heads") ? heads : config.integer("num_key_value_heads", heads);
  if (heads % keyHeads !== 0) throw config.unsupported("num_key_value_heads", [heads]);
  const headDim = config.isNull("head_dim") ? dim / heads : config.integer("head_dim", dim / heads);
  if (![16, 32, 64, 128].includes(headDim)) throw config.unsupported("head_dim", [16, 32, 64, 128]);
  return {
    vocabSize: config.integer("vocab_size", 32000),
    ...{ dim, heads, keyHeads, headDim },
    ffnDim: config.lengthOfFours("intermediate_size", 11008),
    layers: config.count("num_hidden_layers", 32),
    theta: rope.number("rope_theta", 10000, { positive: true }),
    eps: config.number("rms_norm_eps", 1e-6, { positive: true }),
  };
}
