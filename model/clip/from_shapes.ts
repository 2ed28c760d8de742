import type { Config } from "../checkpoint/json.ts";
import { countOf, lengthOf, shapeOf } from "../checkpoint/shapes.ts";
import { otherTensors } from "../checkpoint/tensor_names.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";

/** Tensors that CLIP's encoders have, and those of text or of pictures alone. */
const BLOCK_MARK = "encoder.layers.0.mlp.fc1.weight";
export const TEXT_MARKS: readonly string[] = [BLOCK_MARK, "embeddings.token_embedding.weight"];
export const VISION_MARKS: readonly string[] = [BLOCK_MARK, "embeddings.patch_embedding.weight"];

/** The channels of ViT-H, whose heads and activation differ from those of OpenAI's models. */
const HUGE = 1280;

/**
 * What the shapes of a text encoder's weights say, by the keys of its `config.json`.
 *
 * @param config says the number of heads. Default: one for 64 channels, as in all of OpenAI's
 * @throws {TilereelError} if these are other weights, or one is missing
 */
export function textConfigFromShapes(weights: TensorSource, config: Config): Record<string, unknown> {
  if (!TEXT_MARKS.every((name) => weights.has(name))) throw otherTensors(weights, "CLIP's text encoder");
  const [vocabulary, dim] = shapeOf(weights, TEXT_MARKS[1]!);
  return {
    ...{ hidden_act: "quick_gelu", ...config.values, ...blocksOf(weights, dim, config) },
    ...{ model_type: "clip_text_model", vocab_size: vocabulary },
    max_position_embeddings: shapeOf(weights, "embeddings.position_embedding.weight")[0],
  };
}

/**
 * What the shapes of an image encoder's weights say, by the keys of its `config.json`.
 *
 * @param config says the number of heads and the activation. Default: as in ViT-H, or as in OpenAI's models
 * @throws {TilereelError} if these are other weights, or one is missing
 */
export function visionConfigFromShapes(weights: TensorSource, config: Config): Record<string, unknown> {
  if (!VISION_MARKS.every((name) => weights.has(name))) throw otherTensors(weights, "CLIP's image encoder");
  const [dim, , patch] = shapeOf(weights, VISION_MARKS[1]!);
  const [positions] = shapeOf(weights, "embeddings.position_embedding.weight");
  return {
    ...{ hidden_act: dim === HUGE ? "gelu" : "quick_gelu", ...config.values, ...blocksOf(weights, dim, config) },
    ...{ model_type: "clip_vision_model", patch_size: patch, image_size: patch * Math.sqrt(positions - 1) },
  };
}

function blocksOf(weights: TensorSource, dim: number, config: Config) {
  return {
    hidden_size: dim,
    num_attention_heads: config.integer("num_attention_heads", dim === HUGE ? 16 : Math.max(1, dim / 64)),
    intermediate_size: lengthOf(weights, "encoder.layers.0.mlp.fc1.bias"),
    num_hidden_layers: countOf(weights, /^encoder\.layers\.(\d+)\./),
  };
}
