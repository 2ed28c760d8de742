import type { PartWeights } from "../../family.ts";
import { CLIP_BLOCK, clipNames } from "../block.ts";
import { TEXT_MARKS, textConfigFromShapes } from "../from_shapes.ts";

export const POSITIONS = "embeddings.position_embedding.weight", FINAL_NORM = "final_layer_norm";

/** How the files of its weights are read. Of the embedding table only rows are uploaded. */
export const CLIP_TEXT_WEIGHTS: PartWeights = {
  stem: "model",
  names: clipNames(/^text_model[._]/),
  marks: TEXT_MARKS,
  configFromShapes: textConfigFromShapes,
  block: CLIP_BLOCK,
  vector: (name) => name === POSITIONS,
  used: (name) => CLIP_BLOCK.test(name) || name === POSITIONS || name.startsWith(FINAL_NORM),
};
