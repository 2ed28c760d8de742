/** The names of layers in Wan's repository, in a block, and their names in transformers. */
const LAYERS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(["q", "k", "v", "o"].map((name) => [`attn.${name}`, `layer.0.SelfAttention.${name}`])),
  "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
  norm1: "layer.0.layer_norm",
  "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
  "ffn.fc1": "layer.1.DenseReluDense.wi_1",
  "ffn.fc2": "layer.1.DenseReluDense.wo",
  norm2: "layer.1.layer_norm",
};

const OUTSIDE: Readonly<Record<string, string>> = {
  "token_embedding.weight": "shared.weight",
  "norm.weight": "encoder.final_layer_norm.weight",
};

/** The name in transformers of an UMT5 encoder's tensor, in Wan's own files. Any other name is returned as it is. */
export function transformersName(stored: string): string {
  const [, block, layer] = /^blocks\.(\d+)\.(.+)\.weight$/.exec(stored) ?? [];
  const known = layer === undefined ? undefined : LAYERS[layer];
  return known === undefined ? OUTSIDE[stored] ?? stored : `encoder.block.${block}.${known}.weight`;
}
