import { product } from "../../model/attention/grid.ts";
import { Config } from "../../model/checkpoint/json.ts";
import type { FamilyModel } from "../../model/family.ts";
import { HUNYUAN } from "../../model/hunyuan/family.ts";
import { AutoencoderKLHunyuanVideo } from "../../model/hunyuan/vae/autoencoder.ts";
import { vaeConfig as hunyuanVaeConfig } from "../../model/hunyuan/vae/config.ts";
import { type Preset, PRESETS } from "../../model/schedulers/presets.ts";
import { WAN } from "../../model/wan/family.ts";
import { AutoencoderKLWan } from "../../model/wan/vae/autoencoder.ts";
import { vaeConfig as wanVaeConfig } from "../../model/wan/vae/config.ts";
import { hunyuanVaeTensors } from "../full_size/hunyuan_vae_tensors.ts";
import { randomSource } from "../full_size/made_source.ts";
import { vaeTensors } from "../full_size/tensor_spec.ts";
import type { Size } from "../program.ts";
import { hunyuan, type ModelShape, SHAPES, wan, WAN_14B } from "../shapes.ts";

/** A model whose clips are timed. */
export interface HeadlineModel {
  readonly shape: ModelShape;
  /** In place of the model's own. */
  readonly flowShift?: number;
  /** How a model of few steps is sampled. */
  readonly few: Preset;
  /** Loads a small decoder, to use instead of the model's. */
  readonly smallVae?: FamilyModel["loadVae"];
}

/** The model of a shape with random weights. */
export function modelOf(shape: ModelShape, { smallVae }: Pick<HeadlineModel, "smallVae">): FamilyModel {
  const model = shape.model(randomSource);
  return smallVae ? { ...model, loadVae: smallVae } : model;
}

/** The names of the models, in the order in which they are measured. */
export const MODEL_NAMES = ["hunyuan", "1.3b", "14b", "waver"] as const;

/** The tokens of a prompt of usual length in HunyuanVideo's template. The others are padding. */
const PROMPT_TOKENS = 60;

/** The models by name, as large as a GPU can take them, or small ones for software adapters. */
export function headlineModels(size: Size): {
  readonly clips: Readonly<Record<Exclude<typeof MODEL_NAMES[number], "waver">, HeadlineModel>>;
  /** Wan 1.3B as it was distilled for few steps. */
  readonly fastWan: ModelShape;
  /** The model whose layers alone are measured. */
  readonly waver: ModelShape;
} {
  const small = size === "small", ofWan = small ? { smallVae: smallWanVae } : {};
  return {
    clips: {
      hunyuan: {
        shape: { ...SHAPES[small ? "hunyuan-small" : "hunyuan"], textLength: PROMPT_TOKENS },
        few: PRESETS.fasthunyuan,
        ...small && { smallVae: smallHunyuanVae },
      },
      "1.3b": { shape: SHAPES[small ? "small" : "1.3b"], few: PRESETS.fastwan, ...ofWan },
      "14b": {
        shape: small ? SHAPES.small : wan("Wan 14B", { width: 1280, height: 720, frames: 77 }, WAN_14B),
        // For 720p, as diffusers' guide has it.
        flowShift: 5,
        few: PRESETS.lightx2v,
        ...ofWan,
      },
    },
    fastWan: small ? smallFastWan() : SHAPES.fastwan,
    waver: small ? smallWaver() : SHAPES.waver,
  };
}

function smallFastWan(): ModelShape {
  const { size, textTokens } = SHAPES.small;
  const json = { num_attention_heads: 4, attention_head_dim: 32, ffn_dim: 256, num_layers: 2, text_dim: 64 };
  return wan("a small model of FastWan's kind", size, json, textTokens, WAN.distilled!.WanDMDPipeline);
}

/** It has more tokens than text. */
function smallWaver(): ModelShape {
  const size = { width: 256, height: 256, frames: 13 };
  return hunyuan("a small model of Waver's kind", size, SHAPES["hunyuan-small"].json);
}

/**
 * The number of parts in which layers are timed, because a tensor of all tokens is larger than what can be bound: the
 * least that divides heads and latent frames.
 */
export function partsOf({ config: { dim, heads }, grid, kept }: ModelShape, maxTensorBytes: number): number {
  let parts = 1;
  while (4 * dim * (product(grid) + kept) / parts > maxTensorBytes || heads % parts > 0 || grid[0] % parts > 0) parts++;
  return parts;
}

/** The clip with one of so many parts of the latent frames. */
export function partOfFrames(shape: ModelShape, parts: number): ModelShape {
  const { size, grid: [frames, ...sides] } = shape, some = frames / parts;
  return {
    ...shape,
    size: { ...size, frames: (some - 1) * HUNYUAN.multiples.frames + 1 },
    grid: [some, ...sides],
  };
}

/** The attention with one of so many parts of the heads. */
export function partOfHeads({ config, ...shape }: ModelShape, parts: number): ModelShape {
  return { ...shape, config: { ...config, heads: config.heads / parts, dim: config.dim / parts } };
}

const smallWanVae: FamilyModel["loadVae"] = (gpu, part) => {
  const config = wanVaeConfig(new Config("a small VAE", { base_dim: 8, num_res_blocks: 1 }));
  return AutoencoderKLWan.load(gpu, randomSource(vaeTensors(config), "F32"), config, undefined, [part]);
};

const smallHunyuanVae: FamilyModel["loadVae"] = (gpu, part) => {
  const json = { block_out_channels: [32, 32, 32, 32], norm_num_groups: 8, layers_per_block: 1 };
  const config = hunyuanVaeConfig(new Config("a small VAE", json));
  return AutoencoderKLHunyuanVideo.load(gpu, randomSource(hunyuanVaeTensors(config), "F32"), config, undefined, [part]);
};
