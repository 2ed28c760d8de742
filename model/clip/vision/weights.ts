import type { PartWeights } from "../../family.ts";
import { CLIP_BLOCK, clipNames } from "../block.ts";
import { VISION_MARKS, visionConfigFromShapes } from "../from_shapes.ts";

/** How the files of its weights are read. What comes after the last block but one is not needed. */
export const CLIP_VISION_WEIGHTS: PartWeights = {
  stem: "model",
  names: clipNames(/^vision_model[._]/),
  marks: VISION_MARKS,
  configFromShapes: visionConfigFromShapes,
  block: CLIP_BLOCK,
  vector: (name) => name === "embeddings.position_embedding.weight",
  used: (name) => CLIP_BLOCK.test(name) || /^(embeddings|pre_layrnorm)\./.test(name),
};
