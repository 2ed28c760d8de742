import type { Grid } from "../model/attention/grid.ts";
import { Config } from "../model/checkpoint/json.ts";
import type { TensorSource } from "../model/checkpoint/tensor_source.ts";
import type { ModelFolder } from "../model/checkpoint/model_folder.ts";
import type { Distilled, Family, FamilyModel } from "../model/family.ts";
import { transformerConfig as hunyuanConfig } from "../model/hunyuan/config.ts";
import { HUNYUAN, hunyuanModel } from "../model/hunyuan/family.ts";
import { classifierFreeGuidance } from "../model/guidance.ts";
import type { ClipSize } from "../model/video_size.ts";
import { defaultSettings, PAPER_SETTINGS, type VortaSettings } from "../model/vorta/settings.ts";
import type { HeadShape } from "../model/attention/layout.ts";
import { transformerConfig } from "../model/wan/config.ts";
import { familyOfKind, WAN, wanModel } from "../model/wan/family.ts";
import { I2V_A14B, TEXT_TO_VIDEO, TI2V_5B } from "../model/wan/kinds.ts";
import { vaeConfig } from "../model/wan/vae/config.ts";
import { vaeConfig as hunyuanVaeConfig } from "../model/hunyuan/vae/config.ts";
import { hunyuanTransformerTensors } from "./full_size/hunyuan_tensors.ts";
import { hunyuanVaeTensors } from "./full_size/hunyuan_vae_tensors.ts";
import { type TensorSpec, transformerTensors, vaeTensors } from "./full_size/tensor_spec.ts";

/** The number formats in which weights are made up. */
export type MadeDtype = "F32" | "BF16";

/** The function that makes random weights. */
export type MakeSource = (tensors: readonly TensorSpec[], dtype: MadeDtype) => TensorSource;

/** A model, and the clip that it is measured at. */
export interface ModelShape {
  /** Both in words. */
  readonly clip: string;
  readonly size: ClipSize;
  /** Tokens along frames, rows and columns. */
  readonly grid: Grid;
  readonly textTokens: number;
  /** The number of text tokens that are the prompt's. The others are masked, or all equal. Default: all */
  readonly textLength?: number;
  /** The number of text tokens that self-attention runs over, behind the grid's. */
  readonly kept: number;
  readonly config: HeadShape & { readonly dim: number; readonly ffnDim: number };
  /** Forward passes of a step: classifier-free guidance needs two. */
  readonly passes: number;
  /** The number of blocks of each kind, in order. */
  readonly blocks: readonly number[];
  /** Whether only one block of each kind is timed: all of them are too large for most GPUs. */
  readonly byBlock: boolean;
  /** The sparsity of video sparse attention that it was trained with. */
  readonly sparsity?: number | undefined;
  /** The sizes of VORTA's attention that are measured. */
  readonly vorta: VortaSettings;
  /** The transformer's `config.json`. */
  readonly json: Readonly<Record<string, unknown>>;
  /** The model with weights that are made up and without a text encoder; by default with BF16 files and all blocks. */
  readonly model: (make: MakeSource, options?: { stored?: MadeDtype; blocks?: readonly number[] }) => FamilyModel;
}

/** `config.json` of autoencoders; what it leaves out has the values of their families by default. */
export const WAN_VAE = { _class_name: "AutoencoderKLWan" };
export const HUNYUAN_VAE = { _class_name: "AutoencoderKLHunyuanVideo" };

/** `config.json` of Wan 2.2's autoencoder of 16×16 pixels; means and deviations do not matter here. */
const WAN22_VAE = {
  ...{ _class_name: "AutoencoderKLWan", base_dim: 160, decoder_base_dim: 256, z_dim: 48, is_residual: true },
  ...{ in_channels: 12, out_channels: 12, patch_size: 2, scale_factor_spatial: 16 },
  ...{ latents_mean: Array(48).fill(0), latents_std: Array(48).fill(1) },
};

/** What of the 14B transformer's `config.json` is not that of all of Wan's. */
export const WAN_14B = { num_attention_heads: 40, ffn_dim: 13824, num_layers: 40 };

/** The text tokens of a prompt: those of a long one. Wan pads it to 512. */
const PROMPT_TOKENS = 128;

/** A model of Wan; `json` is what of `config.json` is not that of all its transformers. */
export function wan(
  name: string,
  size: ClipSize,
  json: Readonly<Record<string, number>>,
  textTokens = WAN.defaults.textTokens,
  distilled?: Distilled,
  kind = TEXT_TO_VIDEO,
): ModelShape {
  const { guidance } = distilled?.preset ?? WAN.defaults, gated = distilled?.sparsity !== undefined;
  const family = familyOfKind(kind), grid = gridOfClip(family, size);
  const file = { _class_name: "WanTransformer3DModel", ...json }, all = transformerConfig(new Config(name, file));
  return {
    clip: clipText(name, size),
    ...{ size, grid, textTokens, textLength: Math.min(PROMPT_TOKENS, textTokens), kept: 0 },
    ...{ config: all, json: file, sparsity: distilled?.sparsity },
    ...{
      passes: classifierFreeGuidance(guidance).length,
      blocks: [all.layers],
      byBlock: all.dim > 4096,
      vorta: measuredSettings(grid),
    },
    model: (make, { stored = "BF16", blocks: [layers] = [all.layers] } = {}) => {
      const config = { ...all, layers: layers!, gated };
      const vae = vaeConfig(new Config(name, kind.knownFrames ? WAN22_VAE : WAN_VAE));
      return wanModel({
        ...{ folder: folderOf(name, family), kind },
        scheduler: {
          ...{ kind: "unipc", solverOrder: 2, solverType: "bh2", disableCorrector: [] },
          ...{ numTrainTimesteps: 1000, flowShift: 3, sigmas: "diffusers" },
        },
        config,
        weights: make(transformerTensors(config), stored),
        ...kind.boundary !== undefined && { lowNoise: make(transformerTensors(config), stored) },
        vaeConfig: vae,
        vae: make(vaeTensors(vae), "F32"),
      });
    },
  };
}

/** What of Waver's configuration is not HunyuanVideo's. */
const WAVER = { num_layers: 16 };

/** A text-to-video model of HunyuanVideo; `json` is what of `config.json` is not that of HunyuanVideo. */
export function hunyuan(name: string, size: ClipSize, json: Readonly<Record<string, unknown>> = {}): ModelShape {
  const file = { _class_name: "HunyuanVideoTransformer3DModel", ...json }, grid = gridOfClip(HUNYUAN, size);
  const of = ([dual, single]: readonly number[]) =>
    hunyuanConfig(new Config(name, { ...file, num_layers: dual, num_single_layers: single }));
  const usual = hunyuanConfig(new Config(name, file)), { textTokens } = HUNYUAN.defaults;
  const all = [usual.dualLayers, usual.layers - usual.dualLayers];
  return {
    clip: clipText(name, size),
    ...{ size, grid, textTokens, kept: textTokens, config: usual, json: file },
    ...{ passes: 1, blocks: all, byBlock: usual.dim > 2048 },
    // The authors' for HunyuanVideo.
    vorta: { ...PAPER_SETTINGS, tile: [6, 9, 8] },
    model: (make, { stored = "BF16", blocks = all } = {}) => {
      const config = of(blocks), vae = hunyuanVaeConfig(new Config(name, HUNYUAN_VAE));
      return hunyuanModel({
        folder: folderOf(name, HUNYUAN),
        scheduler: {
          ...{ kind: "euler", solverOrder: 2, solverType: "bh2", disableCorrector: [] },
          ...{ numTrainTimesteps: 1000, flowShift: 7, sigmas: "hunyuan" },
        },
        config,
        weights: make(hunyuanTransformerTensors(config), stored),
        vaeConfig: vae,
        vae: make(hunyuanVaeTensors(vae), "F32"),
      });
    },
  };
}

function gridOfClip({ multiples: { side, frames: step } }: Family, { width, height, frames }: ClipSize): Grid {
  return [(frames - 1) / step + 1, height / side, width / side];
}

function clipText(name: string, { width, height, frames }: ClipSize): string {
  return `${name}, ${frames} frames of ${width}x${height}`;
}

/** A folder that has no files. */
function folderOf(name: string, family: Family): ModelFolder {
  return {
    ...{ given: [], family, path: name, generation: family.defaults },
    component: (part) => Promise.reject(new Error(`${name} has no ${part} here`)),
    className: () => undefined,
    file: (file) => {
      throw new Error(`${name} has no ${file}`);
    },
  };
}

/** The names of the models, as options take them. */
export const SHAPE_NAMES = [
  "small",
  "1.3b",
  "fastwan",
  "14b",
  "ti2v-5b",
  "i2v-a14b",
  "hunyuan-small",
  "hunyuan",
  "hunyuan-129",
  "waver",
] as const;

/**
 * The models by name: those that benchmarks measure, and a small one for software adapters. A model of another family
 * is another row, with a function like {@link wan}.
 */
export const SHAPES: Readonly<Record<typeof SHAPE_NAMES[number], ModelShape>> = {
  small: wan(
    "a small model",
    { width: 256, height: 128, frames: 13 },
    { num_attention_heads: 4, attention_head_dim: 32, ffn_dim: 256, num_layers: 2, text_dim: 64 },
    16,
  ),
  "1.3b": wan(
    "Wan 1.3B",
    { width: 832, height: 480, frames: 81 },
    { num_attention_heads: 12, ffn_dim: 8960, num_layers: 30 },
  ),
  fastwan: wan(
    "FastWan 1.3B",
    { width: 832, height: 480, frames: 81 },
    { num_attention_heads: 12, ffn_dim: 8960, num_layers: 30 },
    WAN.defaults.textTokens,
    WAN.distilled!.WanDMDPipeline,
  ),
  "14b": wan(
    "Wan 14B",
    { width: 1280, height: 720, frames: 81 },
    WAN_14B,
  ),
  "ti2v-5b": wan(
    "Wan 2.2 TI2V 5B",
    { width: 1280, height: 704, frames: 121 },
    { num_attention_heads: 24, ffn_dim: 14336, num_layers: 30, in_channels: 48, out_channels: 48 },
    ...[WAN.defaults.textTokens, undefined, TI2V_5B] as const,
  ),
  "i2v-a14b": wan(
    "Wan 2.2 I2V A14B",
    { width: 832, height: 480, frames: 81 },
    { ...WAN_14B, in_channels: 36, out_channels: 16 },
    ...[WAN.defaults.textTokens, undefined, I2V_A14B] as const,
  ),
  "hunyuan-small": hunyuan("a small model of HunyuanVideo's kind", { width: 128, height: 128, frames: 13 }, {
    ...{ num_attention_heads: 2, attention_head_dim: 32, rope_axes_dim: [8, 12, 12], num_layers: 1 },
    ...{ num_single_layers: 2, text_embed_dim: 64, pooled_projection_dim: 32, num_refiner_layers: 1 },
  }),
  // The longest clip that VORTA's tiles divide, and the usual one.
  hunyuan: hunyuan("HunyuanVideo", { width: 1280, height: 720, frames: 117 }),
  "hunyuan-129": hunyuan("HunyuanVideo", { width: 1280, height: 720, frames: 129 }),
  // Veda's benchmark. The weights are not public.
  waver: hunyuan("Waver", { width: 1280, height: 720, frames: 269 }, WAVER),
};

/**
 * The sizes of VORTA's attention that are measured: the default ones, with tiles of at most the five frames that the
 * authors trained with, so that figures stay comparable.
 */
function measuredSettings(grid: Grid): VortaSettings {
  const { tile: [frames, ...rest], ...others } = defaultSettings(grid);
  return { ...others, tile: [Math.min(frames, PAPER_SETTINGS.tile[0]), ...rest] };
}
