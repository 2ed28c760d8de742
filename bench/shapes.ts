import type { Grid } from "../model/attention/grid.ts";
import { Config } from "../model/checkpoint/json.ts";
import type { TensorSource } from "../model/checkpoint/tensor_source.ts";
import type { FamilyModel } from "../model/family.ts";
import type { ClipSize } from "../model/video_size.ts";
import { defaultSettings, PAPER_SETTINGS, type VortaSettings } from "../model/vorta/settings.ts";
import { type TransformerConfig, transformerConfig } from "../model/wan/config.ts";
import { WAN, wanModel } from "../model/wan/family.ts";
import { vaeConfig } from "../model/wan/vae/config.ts";
import { type TensorSpec, transformerTensors, vaeTensors } from "./full_size/tensor_spec.ts";

/** The number formats of files of weights. */
export type StoredDtype = "F32" | "BF16";

/** The function that makes random weights. */
export type MakeSource = (tensors: readonly TensorSpec[], dtype: StoredDtype) => TensorSource;

/** A model, and the clip that it is measured at. */
export interface ModelShape {
  /** Both in words. */
  readonly clip: string;
  readonly size: ClipSize;
  /** Tokens along frames, rows and columns. */
  readonly grid: Grid;
  readonly textTokens: number;
  readonly config: Pick<TransformerConfig, "layers" | "heads" | "headDim" | "dim" | "ffnDim">;
  /** The transformer's `config.json`. */
  readonly json: Readonly<Record<string, unknown>>;
  /** The model with weights that are made up and without a text encoder; by default with BF16 files and all layers. */
  readonly model: (make: MakeSource, options?: { stored?: StoredDtype; layers?: number }) => FamilyModel;
}

/** `config.json` of Wan's autoencoder; what it leaves out has Wan's values by default. */
export const WAN_VAE = { _class_name: "AutoencoderKLWan" };

/** A text-to-video model of Wan; `json` is what of `config.json` is not that of all its transformers. */
export function wan(
  name: string,
  size: ClipSize,
  json: Readonly<Record<string, number>>,
  textTokens = WAN.defaults.textTokens,
): ModelShape {
  const { width, height, frames } = size, { side, frames: step } = WAN.multiples;
  const file = { _class_name: "WanTransformer3DModel", ...json }, all = transformerConfig(new Config(name, file));
  return {
    clip: `${name}, ${frames} frames of ${width}x${height}`,
    ...{ size, textTokens, config: all, json: file },
    grid: [(frames - 1) / step + 1, height / side, width / side],
    model: (make, { stored = "BF16", layers = all.layers } = {}) => {
      const config = { ...all, layers }, vae = vaeConfig(new Config(name, WAN_VAE));
      return wanModel({
        folder: {
          given: [],
          family: WAN,
          path: name,
          generation: WAN.defaults,
          component: (part) => Promise.reject(new Error(`${name} has no ${part} here`)),
          className: () => undefined,
        },
        scheduler: {
          ...{ kind: "unipc", solverOrder: 2, solverType: "bh2", disableCorrector: [] },
          ...{ numTrainTimesteps: 1000, flowShift: 3, sigmas: "diffusers" },
        },
        config,
        weights: make(transformerTensors(config), stored),
        vaeConfig: vae,
        vae: make(vaeTensors(vae), "F32"),
      });
    },
  };
}

/** The names of the models, as options take them. */
export const SHAPE_NAMES = ["small", "1.3b", "14b"] as const;

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
  "14b": wan(
    "Wan 14B",
    { width: 1280, height: 720, frames: 81 },
    { num_attention_heads: 40, ffn_dim: 13824, num_layers: 40 },
  ),
};

/**
 * The sizes of VORTA's attention that are measured: the default ones, with tiles of at most the five frames that the
 * authors trained with, so that figures stay comparable.
 */
export function measuredSettings(grid: Grid): VortaSettings {
  const { tile: [frames, ...rest], ...others } = defaultSettings(grid);
  return { ...others, tile: [Math.min(frames, PAPER_SETTINGS.tile[0]), ...rest] };
}
