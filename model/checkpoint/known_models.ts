import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { anyOf, MATRIX_DTYPES } from "./dtype.ts";
import { type Config, isJsonObject } from "./json.ts";
import { SCALE_METHODS } from "./scales.ts";

/** Pipelines by diffusers' `_class_name`. */
const PIPELINES: Readonly<Record<string, string>> = {
  AllegroPipeline: "Allegro",
  AnimateDiffPipeline: "AnimateDiff",
  CogVideoXImageToVideoPipeline: "CogVideoX image to video",
  CogVideoXPipeline: "CogVideoX",
  FluxPipeline: "Flux, which makes pictures",
  HunyuanVideo15ImageToVideoPipeline: "HunyuanVideo 1.5 image to video",
  HunyuanVideo15Pipeline: "HunyuanVideo 1.5",
  HunyuanVideoFramepackPipeline: "FramePack",
  HunyuanVideoImageToVideoPipeline: "HunyuanVideo image to video",
  LTX2Pipeline: "LTX-2",
  LTXConditionPipeline: "LTX Video",
  LTXImageToVideoPipeline: "LTX Video image to video",
  LTXPipeline: "LTX Video",
  MochiPipeline: "Mochi",
  QwenImagePipeline: "Qwen-Image, which makes pictures",
  SkyReelsV2DiffusionForcingPipeline: "SkyReels V2 (diffusion forcing)",
  SkyReelsV2ImageToVideoPipeline: "SkyReels V2 image to video",
  SkyReelsV2Pipeline: "SkyReels V2",
  StableDiffusionPipeline: "Stable Diffusion, which makes pictures",
  StableDiffusionXLPipeline: "Stable Diffusion XL, which makes pictures",
  StableVideoDiffusionPipeline: "Stable Video Diffusion",
  WanAnimatePipeline: "Wan Animate",
  WanVACEPipeline: "Wan VACE",
  WanVideoToVideoPipeline: "Wan video to video",
};

/** What a model is, by the `_class_name` in its `model_index.json`, for those of no family. */
export function foreignKind(className: unknown): string {
  if (typeof className !== "string") return "of an unknown kind, because its _class_name is missing";
  return Object.hasOwn(PIPELINES, className) ? `${PIPELINES[className]} (${className})` : `a ${quoted(className)}`;
}

/**
 * Checks that a part's weights are not quantised in a way that has other tensors under the same names.
 *
 * @param config the part's config, as diffusers and transformers write it
 * @throws {TilereelError} if they are quantised in such a way
 */
export function refuseQuantized(config: Config): void {
  if (config.isNull("quantization_config")) return;
  const value = config.value("quantization_config");
  const method = isJsonObject(value) ? value.quant_method : undefined;
  if (SCALE_METHODS.includes(method)) return;
  throw new TilereelError(
    `${config.path}: these weights are quantised (${
      typeof method === "string" ? quoted(method) : "quantization_config"
    }), ` +
      `which is not supported; use the model's version in ${anyOf(MATRIX_DTYPES)}`,
  );
}
