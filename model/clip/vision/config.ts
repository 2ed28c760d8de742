import type { StoredFile } from "../../files/store.ts";
import { readPartConfig } from "../../checkpoint/open_part.ts";
import type { ClipShape } from "../block.ts";
import { clipShape } from "../shape.ts";

/** The configuration of `CLIPVisionModel`. */
export interface ClipVisionConfig extends ClipShape {
  /** Pixels along an edge of the picture, and of a patch of it. */
  readonly imageSize: number;
  readonly patchSize: number;
  /** The tokens of a picture: its patches, and one before them that stands for all. */
  readonly tokens: number;
}

/**
 * Reads `config.json` of CLIP's image encoder in transformers' layout.
 *
 * @throws {TilereelError} if a value has the wrong type, or the model is another
 */
export async function readClipVisionConfig(file: string | StoredFile): Promise<ClipVisionConfig> {
  const config = await readPartConfig(file);
  config.require("model_type", ["clip_vision_model"], "clip_vision_model");
  config.require("num_channels", [3], 3);
  const imageSize = config.integer("image_size", 224), patchSize = config.integer("patch_size", 32);
  if (imageSize % patchSize !== 0 || patchSize ** 2 % 4 !== 0) throw config.unsupported("patch_size", [14]);
  return {
    ...clipShape(config, { dim: 768, ffnDim: 3072, layers: 12, heads: 12, activation: "quick_gelu" }),
    ...{ imageSize, patchSize, tokens: (imageSize / patchSize) ** 2 + 1 },
  };
}
