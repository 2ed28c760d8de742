import type { Config } from "../checkpoint/json.ts";
import type { ClipShape } from "./block.ts";

/** The values of `hidden_act`, and what kernels call them. */
const ACTIVATIONS = { quick_gelu: "quick_gelu", gelu: "gelu" } as const;

/**
 * Reads the sizes of an encoder's blocks.
 *
 * @param usual what absent keys stand for
 * @throws {TilereelError} if a value has the wrong type or is not supported
 */
export function clipShape(config: Config, usual: Omit<ClipShape, "eps">): ClipShape {
  config.require("hidden_act", Object.keys(ACTIVATIONS), usual.activation);
  const dim = config.lengthOfFours("hidden_size", usual.dim),
    heads = config.integer("num_attention_heads", usual.heads);
  if (dim % heads !== 0 || dim / heads > 128) throw config.unsupported("num_attention_heads", [dim / 64]);
  return {
    ...{ dim, heads, ffnDim: config.lengthOfFours("intermediate_size", usual.ffnDim) },
    layers: config.count("num_hidden_layers", usual.layers),
    eps: config.number("layer_norm_eps", 1e-5, { positive: true }),
    activation: ACTIVATIONS[config.string("hidden_act", usual.activation) as keyof typeof ACTIVATIONS],
  };
}
