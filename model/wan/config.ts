import type { Config } from "../checkpoint/json.ts";
import { countOf } from "../checkpoint/shapes.ts";
import { otherTensors } from "../checkpoint/tensor_names.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import type { StoredFile } from "../files/store.ts";
import { readPartConfig } from "../checkpoint/open_part.ts";

/** How a transformer sees pictures as tokens. */
export interface ImageTokens {
  /** The number of channels of an image embedding. */
  readonly dim: number;
  /** The number of tokens, where they have positions of their own: then they are those of two pictures. */
  readonly positions?: number;
}

/** The parameters of `WanTransformer3DModel`. */
export interface TransformerConfig {
  /** The latent frames, rows and columns of one token. */
  readonly patchSize: readonly [number, number, number];
  readonly heads: number;
  /** The number of channels of one head: 32, 64 or 128. */
  readonly headDim: number;
  /** The number of channels of a token: heads × headDim. */
  readonly dim: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** The number of channels of a text embedding. */
  readonly textDim: number;
  /** How it sees pictures as tokens beside the text's, where it does. */
  readonly images?: ImageTokens;
  /** The number of channels of the sinusoidal embedding of the timestep. */
  readonly freqDim: number;
  readonly ffnDim: number;
  readonly layers: number;
  /** Blocks attend to the text in an attention module of its own. */
  readonly crossAttention: true;
  /** Whether self-attention has gates. No config says it, but the names of the weights do. */
  readonly gated?: boolean;
  /** Whether there is a norm with weights before cross-attention. If not, tokens are not normalized there. */
  readonly crossAttnNorm: boolean;
  readonly eps: number;
  /** The number of positions along one axis for which rotary embeddings exist. */
  readonly ropeMaxSeqLen: number;
}

/**
 * Reads `config.json` of a transformer in the diffusers layout.
 *
 * @throws {TilereelError} if a value has the wrong type or is for something other than text to video.
 */
export async function readTransformerConfig(file: string | StoredFile): Promise<TransformerConfig> {
  return transformerConfig(await readPartConfig(file));
}

/** A tensor that only Wan's transformers have. */
export const MARK = "condition_embedder.time_proj.weight";

/**
 * What the shapes of a transformer's weights say, by the keys of its `config.json`.
 *
 * @param config says the number of channels of a head. Default: 128, as in all of Wan's transformers
 * @throws {TilereelError} if these are other weights, or one is missing
 */
export function configFromShapes(weights: TensorSource, config: Config): Record<string, unknown> {
  if (!weights.has("patch_embedding.weight")) throw otherTensors(weights, "a transformer of Wan 2.1");
  const shape = (name: string) => weights.info(`${name}.weight`).shape;
  const [dim = 0, inChannels, ...patch] = shape("patch_embedding"), [outputs = 0] = shape("proj_out");
  // Wan's own config.json has other keys.
  const heads = config.isNull("num_heads")
    ? dim / config.integer("attention_head_dim", 128)
    : config.integer("num_heads", 0);
  return {
    _class_name: "WanTransformer3DModel",
    patch_size: patch,
    num_attention_heads: heads,
    attention_head_dim: dim / heads,
    num_layers: countOf(weights, /^blocks\.(\d+)\./),
    in_channels: inChannels,
    out_channels: outputs / patch.reduce((a, b) => a * b, 1),
    ffn_dim: shape("blocks.0.ffn.net.0.proj")[0],
    text_dim: shape("condition_embedder.text_embedder.linear_1")[1],
    freq_dim: shape("condition_embedder.time_embedder.linear_1")[1],
    cross_attn_norm: weights.has("blocks.0.norm2.weight"),
    ...imageKeys(weights),
  };
}

/** As {@link readTransformerConfig}, from the contents of such a file. */
export function transformerConfig(config: Config): TransformerConfig {
  config.require("_class_name", ["WanTransformer3DModel"], "WanTransformer3DModel");
  config.require("qk_norm", ["rms_norm_across_heads"], "rms_norm_across_heads");
  config.require("attention_head_dim", [32, 64, 128], 128);

  const heads = config.integer("num_attention_heads", 40);
  const headDim = config.integer("attention_head_dim", 128);
  const inChannels = config.integer("in_channels", 16);
  const patchSize = config.integers("patch_size", [1, 2, 2], 3) as [number, number, number];
  // See `lengthOfFours`.
  if (inChannels * patchSize.reduce((a, b) => a * b) % 4 !== 0) throw config.unsupported("patch_size", [[1, 2, 2]]);
  return {
    patchSize,
    heads,
    headDim,
    dim: heads * headDim,
    inChannels,
    outChannels: config.isNull("out_channels") ? inChannels : config.integer("out_channels", inChannels),
    textDim: config.lengthOfFours("text_dim", 4096),
    ...imageTokens(config, heads * headDim),
    freqDim: config.lengthOfFours("freq_dim", 256),
    ffnDim: config.lengthOfFours("ffn_dim", 13824),
    layers: config.count("num_layers", 40),
    crossAttention: true,
    crossAttnNorm: config.boolean("cross_attn_norm", true),
    eps: config.number("eps", 1e-6, { positive: true }),
    ropeMaxSeqLen: config.integer("rope_max_seq_len", 1024),
  };
}

function imageTokens(config: Config, dim: number): { readonly images?: ImageTokens } {
  if (config.isNull("image_dim")) {
    for (const key of ["added_kv_proj_dim", "pos_embed_seq_len"]) config.require(key, [null], null);
    return {};
  }
  config.require("added_kv_proj_dim", [dim], dim);
  const positions = config.isNull("pos_embed_seq_len") ? undefined : config.integer("pos_embed_seq_len", 514);
  return { images: { dim: config.lengthOfFours("image_dim", 1280), ...positions !== undefined && { positions } } };
}

/** The keys of image to video. */
function imageKeys(weights: TensorSource): Record<string, unknown> {
  const embedder = "condition_embedder.image_embedder.", positions = `${embedder}pos_embed`;
  const [dim, image] = weights.has(`${embedder}ff.net.2.weight`)
    ? weights.info(`${embedder}ff.net.2.weight`).shape
    : [];
  return {
    image_dim: image ?? null,
    added_kv_proj_dim: dim ?? null,
    pos_embed_seq_len: weights.has(positions) ? weights.info(positions).shape[1] : null,
  };
}
