import type { GenerationDefaults } from "../checkpoint/generation_defaults.ts";
import { Config } from "../checkpoint/json.ts";
import { CLIP_VISION_WEIGHTS } from "../clip/vision/weights.ts";
import type { Family, ModelPart } from "../family.ts";
import type { FileStore } from "../files/store.ts";
import type { ImageNeeds } from "../pictures_of_clip.ts";
import { PRESETS } from "../schedulers/presets.ts";
import { TRANSFORMER_WEIGHTS } from "./weights.ts";

/** What is its own of a kind of Wan's models. What is absent is as with Wan 2.1's text to video. */
export interface WanKind {
  readonly name: string;
  readonly defaults?: Partial<GenerationDefaults>;
  readonly multiples?: Family["multiples"];
  readonly parts?: Readonly<Record<string, ModelPart>>;
  readonly images?: ImageNeeds;
  /** The pictures go in as known frames, and not as channels. */
  readonly knownFrames?: boolean;
  /** The share of the timesteps below which another transformer takes over. */
  readonly boundary?: number;
  /** The flow shift that Wan's own program uses. Default: 5 */
  readonly ownShift?: number;
  /** Its distilled models, where they are others than those of Wan 2.1. */
  readonly distilled?: Family["distilled"];
}

export const transformer_2: ModelPart = { classes: ["WanTransformer3DModel"], weights: TRANSFORMER_WEIGHTS };
export const CLIP_PARTS: Readonly<Record<string, ModelPart>> = {
  image_encoder: { classes: ["CLIPVisionModel", "CLIPVisionModelWithProjection"], weights: CLIP_VISION_WEIGHTS },
};
const LARGE = { width: 1280, height: 720 };

/** Wan 2.1's text to video. */
export const TEXT_TO_VIDEO: WanKind = { name: "Wan 2.1" };

/** Wan 2.2's small model, which takes a picture or does without. */
export const TI2V_5B: WanKind = {
  name: "Wan 2.2 TI2V 5B",
  defaults: { width: 1280, height: 704, frames: 121, fps: 24 },
  // Its VAE packs 16x16 pixels.
  multiples: { side: 32, frames: 4 },
  images: { image: "optional", lastImage: "none" },
  knownFrames: true,
};

/** FastVideo's models of that size. They were distilled with full attention, for text to video alone. */
export const FAST_TI2V_5B: WanKind = {
  ...{ name: "FastWan 2.2 5B", defaults: TI2V_5B.defaults!, multiples: TI2V_5B.multiples!, knownFrames: true },
  distilled: { WanDMDPipeline: { name: "FastWan 2.2", preset: PRESETS.fastwan } },
};

/** Wan 2.2's large models. */
export const T2V_A14B: WanKind = {
  ...{ name: "Wan 2.2 T2V A14B", boundary: 0.875, parts: { transformer_2 }, ownShift: 12 },
  defaults: { steps: 40, guidance: 4, guidanceLow: 3 },
};
export const I2V_A14B: WanKind = {
  ...{ name: "Wan 2.2 I2V A14B", boundary: 0.9, parts: { transformer_2 } },
  defaults: { steps: 40, guidance: 3.5, guidanceLow: 3.5 },
  images: { image: "required", lastImage: "optional" },
};

/**
 * The kind of a model.
 *
 * @param isText whether its pipeline is one of text to video
 * @param index the contents of `model_index.json`
 * @throws {TilereelError} if a value has the wrong type
 */
export async function kindOf(isText: boolean, index: Config, folder: FileStore): Promise<WanKind> {
  if (index.value("expand_timesteps") === true) {
    return isText ? TI2V_5B : { ...TI2V_5B, images: { image: "required", lastImage: "none" } };
  }
  if (!index.isNull("boundary_ratio")) {
    return { ...isText ? T2V_A14B : I2V_A14B, boundary: index.number("boundary_ratio", 0, { positive: true }) };
  }
  if (isText) return TEXT_TO_VIDEO;
  return await takesTwoImages(folder)
    ? {
      ...{ name: "Wan 2.1 FLF2V", parts: CLIP_PARTS, ownShift: 16 },
      defaults: LARGE,
      images: { image: "required", lastImage: "required" },
    }
    : {
      ...{ name: "Wan 2.1 I2V", parts: CLIP_PARTS, defaults: { steps: 40 } },
      images: { image: "required", lastImage: "none" },
    };
}

/** The tokens of two pictures have positions of their own; a transformer for one picture has none. */
async function takesTwoImages(folder: FileStore): Promise<boolean> {
  const file = folder.file("transformer/config.json");
  return await file.kind() !== undefined && !(await Config.read(file)).isNull("pos_embed_seq_len");
}
