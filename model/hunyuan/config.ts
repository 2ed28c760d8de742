import type { HeadShape } from "../attention/layout.ts";
import type { Config } from "../checkpoint/json.ts";
import { readPartConfig } from "../checkpoint/open_part.ts";
import type { StoredFile } from "../files/store.ts";

/** The shape of a HunyuanVideo transformer: the parameters of `HunyuanVideoTransformer3DModel`. */
export interface TransformerConfig extends HeadShape {
  /** The number of blocks in which video and text have weights of their own; the first of `layers`. */
  readonly dualLayers: number;
  /** For each layer the prefix of its tensors' names. */
  readonly layerPrefixes: readonly string[];
  /** The number of channels of a token: heads × headDim. */
  readonly dim: number;
  /** The latent frames, rows and columns of one token. */
  readonly patchSize: readonly [number, number, number];
  readonly inChannels: number;
  readonly outChannels: number;
  /** The number of channels of a text embedding. */
  readonly textDim: number;
  /** The number of channels of the prompt as one vector. */
  readonly pooledDim: number;
  readonly ffnDim: number;
  /** The number of blocks that refine the text before the transformer's blocks. */
  readonly refinerLayers: number;
  /** Whether the model is told the scale of guidance, which it was distilled from. */
  readonly guidanceEmbeds: boolean;
  /** The channels of a head that turn with frames, rows and columns, and the base of their frequencies. */
  readonly ropeDims: readonly [number, number, number];
  readonly ropeTheta: number;
}

/**
 * Reads `config.json` of a transformer in the diffusers layout.
 *
 * @throws {TilereelError} if a value has the wrong type or is for something other than text to video.
 */
export async function readTransformerConfig(file: string | StoredFile): Promise<TransformerConfig> {
  return transformerConfig(await readPartConfig(file));
}

/** As {@link readTransformerConfig}, from the contents of such a file. */
export function transformerConfig(config: Config): TransformerConfig {
  config.require("_class_name", ["HunyuanVideoTransformer3DModel"], "HunyuanVideoTransformer3DModel");
  config.require("qk_norm", ["rms_norm"], "rms_norm");
  config.require("image_condition_type", [null], null);
  config.require("attention_head_dim", [32, 64, 128], 128);

  const heads = config.integer("num_attention_heads", 24), headDim = config.integer("attention_head_dim", 128);
  const dim = heads * headDim;
  const inChannels = config.integer("in_channels", 16), patch = config.integer("patch_size", 2);
  const patchSize = [config.integer("patch_size_t", 1), patch, patch] as const;
  const ropeDims = config.integers("rope_axes_dim", [16, 56, 56], 3) as [number, number, number];
  if (ropeDims.reduce((a, b) => a + b) !== headDim || ropeDims.some((dims) => dims % 2 !== 0)) {
    throw config.unsupported("rope_axes_dim", [[headDim / 8, headDim * 7 / 16, headDim * 7 / 16]]);
  }
  const textDim = config.lengthOfFours("text_embed_dim", 4096);
  const pooledDim = config.lengthOfFours("pooled_projection_dim", 768);
  const ffnDim = Math.floor(dim * config.number("mlp_ratio", 4, { positive: true }));
  // See `lengthOfFours`.
  if (ffnDim % 4 !== 0) throw config.unsupported("mlp_ratio", [4]);
  if (inChannels * patchSize.reduce((a, b) => a * b) % 4 !== 0) throw config.unsupported("patch_size", [2]);
  const dualLayers = config.count("num_layers", 20), singleLayers = config.count("num_single_layers", 40);
  return {
    heads,
    headDim,
    dim,
    layers: dualLayers + singleLayers,
    dualLayers,
    layerPrefixes: layerPrefixes(dualLayers, singleLayers),
    ownKeys: true,
    patchSize,
    inChannels,
    outChannels: config.isNull("out_channels") ? inChannels : config.integer("out_channels", inChannels),
    textDim,
    pooledDim,
    ffnDim,
    refinerLayers: config.count("num_refiner_layers", 2),
    guidanceEmbeds: config.boolean("guidance_embeds", true),
    ropeDims,
    ropeTheta: config.number("rope_theta", 256, { positive: true }),
  };
}

/** The prefixes of the names of the blocks' tensors: those of dual-stream blocks, then those of single-stream blocks. */
function layerPrefixes(dual: number, single: number): string[] {
  const prefixes = (kind: string, count: number) => Array.from({ length: count }, (_, i) => `${kind}.${i}.`);
  return [...prefixes("transformer_blocks", dual), ...prefixes("single_transformer_blocks", single)];
}
