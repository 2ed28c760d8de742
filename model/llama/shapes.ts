import { TilereelError } from "../../gpu/common/errors.ts";
import type { Config } from "../checkpoint/json.ts";
import { countOf, shapeOf } from "../checkpoint/shapes.ts";
import { otherTensors } from "../checkpoint/tensor_names.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";

/** Tensors that LLaMAs have. */
export const MARKS: readonly string[] = ["embed_tokens.weight", "layers.0.self_attn.q_proj.weight"];
/** What LLaMA 3 has, and no tensor says. */
const LLAMA_3 = { head_dim: 128, rms_norm_eps: 1e-5, rope_theta: 500_000 };
/** The metadata of GGUF files that say the same. */
export const HEAD_DIM = "llama.rope.dimension_count";
const IN_GGUF = {
  head_dim: HEAD_DIM,
  rms_norm_eps: "llama.attention.layer_norm_rms_epsilon",
  rope_theta: "llama.rope.freq_base",
};

/**
 * What the shapes of an encoder's weights say, by the keys of its `config.json`.
 *
 * @param config says the number of channels of a head, and what no tensor says. Default: as in LLaMA 3
 * @throws {TilereelError} if these are other weights, or one is missing
 */
export function configFromShapes(weights: TensorSource, config: Config): Record<string, unknown> {
  if (!MARKS.every((name) => weights.has(name))) throw otherTensors(weights, "a LLaMA");
  const [vocabulary, dim] = shapeOf(weights, "embed_tokens.weight"), first = "layers.0.";
  if (weights.has("rope_freqs.weight")) {
    throw new TilereelError(
      `${weights.path} is a LLaMA whose RoPE is scaled, as in version 3.1, which is not supported; use LLaMA 3 8B`,
    );
  }
  const inFile = Object.fromEntries(
    Object.entries(IN_GGUF).flatMap(([key, name]) =>
      weights.metadata[name] ? [[key, Number(weights.metadata[name])]] : []
    ),
  );
  const usual = { ...LLAMA_3, ...inFile },
    headDim = config.isNull("head_dim") ? usual.head_dim : config.integer("head_dim", 0);
  const rows = (name: string) => shapeOf(weights, `${first}${name}.weight`)[0];
  return {
    ...{ ...usual, ...config.values, model_type: "llama", head_dim: headDim },
    ...{ vocab_size: vocabulary, hidden_size: dim },
    num_attention_heads: rows("self_attn.q_proj") / headDim,
    num_key_value_heads: rows("self_attn.k_proj") / headDim,
    intermediate_size: rows("mlp.gate_proj"),
    num_hidden_layers: countOf(weights, /^layers\.(\d+)\./),
  };
}
