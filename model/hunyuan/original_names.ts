import { layoutNames } from "../checkpoint/layout_names.ts";

const parts = (...names: readonly string[]) => names.map((name) => ({ name }));
const QKV = parts("attn.to_q", "attn.to_k", "attn.to_v");
const TIME = "time_text_embed.timestep_embedder", TEXT = "time_text_embed.text_embedder";

/**
 * The name in diffusers of a transformer's tensor in the layout of HunyuanVideo's repository. Scale and shift of the
 * output norm have names of their own, because their order differs.
 */
export const diffusersName = layoutNames([
  {
    blocks: ["double_blocks", "transformer_blocks"],
    layers: {
      img_attn_qkv: QKV,
      img_attn_q_norm: "attn.norm_q",
      img_attn_k_norm: "attn.norm_k",
      img_attn_proj: "attn.to_out.0",
      "img_mod.linear": "norm1.linear",
      "img_mlp.fc1": "ff.net.0.proj",
      "img_mlp.fc2": "ff.net.2",
      txt_attn_qkv: parts("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
      txt_attn_q_norm: "attn.norm_added_q",
      txt_attn_k_norm: "attn.norm_added_k",
      txt_attn_proj: "attn.to_add_out",
      "txt_mod.linear": "norm1_context.linear",
      "txt_mlp.fc1": "ff_context.net.0.proj",
      "txt_mlp.fc2": "ff_context.net.2",
    },
  },
  {
    blocks: ["single_blocks", "single_transformer_blocks"],
    layers: {
      // The feed-forward is four times as wide as queries, keys and values.
      linear1: [...QKV, { name: "proj_mlp", share: 4 }],
      linear2: "proj_out",
      q_norm: "attn.norm_q",
      k_norm: "attn.norm_k",
      "modulation.linear": "norm.linear",
    },
  },
  {
    blocks: ["txt_in.individual_token_refiner.blocks", "context_embedder.token_refiner.refiner_blocks"],
    layers: {
      self_attn_qkv: QKV,
      self_attn_proj: "attn.to_out.0",
      "mlp.fc1": "ff.net.0.proj",
      "mlp.fc2": "ff.net.2",
      "adaLN_modulation.1": "norm_out.linear",
    },
  },
  {
    layers: {
      "img_in.proj": "x_embedder.proj",
      "time_in.mlp.0": `${TIME}.linear_1`,
      "time_in.mlp.2": `${TIME}.linear_2`,
      "guidance_in.mlp.0": "time_text_embed.guidance_embedder.linear_1",
      "guidance_in.mlp.2": "time_text_embed.guidance_embedder.linear_2",
      "vector_in.in_layer": `${TEXT}.linear_1`,
      "vector_in.out_layer": `${TEXT}.linear_2`,
      "txt_in.input_embedder": "context_embedder.proj_in",
      "txt_in.t_embedder.mlp.0": `context_embedder.${TIME}.linear_1`,
      "txt_in.t_embedder.mlp.2": `context_embedder.${TIME}.linear_2`,
      "txt_in.c_embedder.linear_1": `context_embedder.${TEXT}.linear_1`,
      "txt_in.c_embedder.linear_2": `context_embedder.${TEXT}.linear_2`,
      "final_layer.linear": "proj_out",
      "final_layer.adaLN_modulation.1": parts("norm_out.shift", "norm_out.scale"),
      "norm_out.linear": parts("norm_out.scale", "norm_out.shift"),
    },
  },
]);
