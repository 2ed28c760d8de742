import { countOf, shapeOf } from "../checkpoint/shapes.ts";
import { otherTensors } from "../checkpoint/tensor_names.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";

const FIRST = "encoder.block.0.layer.0.SelfAttention";

/** Tensors that only UMT5 encoders have: T5's second block has no positions of its own. */
export const MARKS: readonly string[] = [
  "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
  "encoder.block.1.layer.1.DenseReluDense.wi_1.weight",
];

/**
 * What the shapes of an encoder's weights say, by the keys of its `config.json`.
 *
 * @throws {TilereelError} if these are other weights, or one is missing
 */
export function configFromShapes(weights: TensorSource): Record<string, unknown> {
  if (!MARKS.every((name) => weights.has(name))) throw otherTensors(weights, "a text encoder of Wan (UMT5)");
  const table = weights.has("shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
  const [vocabulary, dim] = shapeOf(weights, table);
  const [buckets, heads] = shapeOf(weights, `${FIRST}.relative_attention_bias.weight`);
  return {
    ...{ model_type: "umt5", vocab_size: vocabulary, d_model: dim, num_heads: heads },
    d_kv: shapeOf(weights, `${FIRST}.q.weight`)[0] / heads,
    d_ff: shapeOf(weights, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")[0],
    num_layers: countOf(weights, /^encoder\.block\.(\d+)\./),
    relative_attention_num_buckets: buckets,
  };
}
