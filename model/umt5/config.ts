import type { StoredFile } from "../files/store.ts";
import { readPartConfig } from "../checkpoint/open_part.ts";

/** The configuration of `UMT5EncoderModel`, from `text_encoder/config.json`. */
export interface Umt5Config {
  readonly vocabSize: number;
  /** Channels of a token. */
  readonly dModel: number;
  /** Channels of one head; heads × dKv need not be dModel. */
  readonly dKv: number;
  readonly dFf: number;
  readonly layers: number;
  readonly heads: number;
  /** Buckets of relative distances, half of them for each direction. */
  readonly relativeBuckets: number;
  readonly relativeMaxDistance: number;
  readonly eps: number;
}

/**
 * Reads `config.json` of a text encoder in transformers' layout.
 *
 * @throws {TilereelError} if a value has the wrong type or the model is not UMT5 with gated GELU.
 */
export async function readUmt5Config(file: string | StoredFile): Promise<Umt5Config> {
  const config = await readPartConfig(file);
  config.require("model_type", ["umt5"], undefined);
  config.require("feed_forward_proj", ["gated-gelu"], "gated-gelu");
  config.require("dense_act_fn", ["gelu_new"], "gelu_new");
  // What the attention kernels are written for.
  config.require("d_kv", [16, 32, 64, 128], 64);
  const dModel = config.lengthOfFours("d_model", 512), dFf = config.lengthOfFours("d_ff", 1024);

  const relativeBuckets = config.integer("relative_attention_num_buckets", 32, 4);
  if (relativeBuckets % 4 !== 0) throw config.unsupported("relative_attention_num_buckets", [32]);
  const relativeMaxDistance = config.integer("relative_attention_max_distance", 128);
  // Beyond a quarter of the buckets distances share buckets logarithmically up to the maximum, which must lie beyond.
  if (relativeMaxDistance <= relativeBuckets / 4) throw config.unsupported("relative_attention_max_distance", [128]);
  return {
    vocabSize: config.integer("vocab_size", 250112),
    ...{ dModel, dFf },
    dKv: config.integer("d_kv", 64),
    layers: config.count("num_layers", 8),
    heads: config.integer("num_heads", 6),
    relativeBuckets,
    relativeMaxDistance,
    eps: config.number("layer_norm_epsilon", 1e-6, { positive: true }),
  };
}
