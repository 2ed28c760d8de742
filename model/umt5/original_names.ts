import { layoutNames } from "../checkpoint/layout_names.ts";

/** The name in transformers of an UMT5 encoder's tensor, in Wan's own files and in llama.cpp's GGUF. */
export const transformersName = layoutNames([
  {
    blocks: ["blocks", "encoder.block"],
    layers: {
      "attn.q": "layer.0.SelfAttention.q",
      "attn.k": "layer.0.SelfAttention.k",
      "attn.v": "layer.0.SelfAttention.v",
      "attn.o": "layer.0.SelfAttention.o",
      "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
      norm1: "layer.0.layer_norm",
      "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
      "ffn.fc1": "layer.1.DenseReluDense.wi_1",
      "ffn.fc2": "layer.1.DenseReluDense.wo",
      norm2: "layer.1.layer_norm",
    },
  },
  {
    blocks: ["enc.blk", "encoder.block"],
    layers: {
      attn_q: "layer.0.SelfAttention.q",
      attn_k: "layer.0.SelfAttention.k",
      attn_v: "layer.0.SelfAttention.v",
      attn_o: "layer.0.SelfAttention.o",
      attn_rel_b: "layer.0.SelfAttention.relative_attention_bias",
      attn_norm: "layer.0.layer_norm",
      ffn_gate: "layer.1.DenseReluDense.wi_0",
      ffn_up: "layer.1.DenseReluDense.wi_1",
      ffn_down: "layer.1.DenseReluDense.wo",
      ffn_norm: "layer.1.layer_norm",
    },
  },
  {
    layers: {
      token_embedding: "shared",
      norm: "encoder.final_layer_norm",
      token_embd: "shared",
      "enc.output_norm": "encoder.final_layer_norm",
    },
  },
]);
