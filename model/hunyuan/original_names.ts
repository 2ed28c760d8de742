import { layoutNames, sameNames } from "../checkpoint/layout_names.ts";

const parts = (...names: readonly string[]) => names.map((name) => ({ name }));
const QKV = parts("attn.to_q", "attn.to_k", "attn.to_v");
const TIME = "time_text_embed.timestep_embedder", TEXT = "time_text_embed.text_embedder";

const named = layoutNames([
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
      "img_attn.norm.query_norm": "attn.norm_q",
      "img_attn.norm.key_norm": "attn.norm_k",
      "img_mod.lin": "norm1.linear",
      "img_mlp.0": "ff.net.0.proj",
      "img_mlp.2": "ff.net.2",
      txt_attn_qkv: parts("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
      txt_attn_q_norm: "attn.norm_added_q",
      txt_attn_k_norm: "attn.norm_added_k",
      txt_attn_proj: "attn.to_add_out",
      "txt_mod.linear": "norm1_context.linear",
      "txt_mlp.fc1": "ff_context.net.0.proj",
      "txt_mlp.fc2": "ff_context.net.2",
      "txt_attn.norm.query_norm": "attn.norm_added_q",
      "txt_attn.norm.key_norm": "attn.norm_added_k",
      "txt_mod.lin": "norm1_context.linear",
      "txt_mlp.0": "ff_context.net.0.proj",
      "txt_mlp.2": "ff_context.net.2",
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
      "norm.query_norm": "attn.norm_q",
      "norm.key_norm": "attn.norm_k",
      "modulation.lin": "norm.linear",
    },
  },
  {
    blocks: ["txt_in.individual_token_refiner.blocks", "context_embedder.token_refiner.refiner_blocks"],
    layers: {
      ...sameNames("norm1", "norm2"),
      self_attn_qkv: QKV,
      self_attn_proj: "attn.to_out.0",
      "mlp.fc1": "ff.net.0.proj",
      "mlp.fc2": "ff.net.2",
      "mlp.0": "ff.net.0.proj",
      "mlp.2": "ff.net.2",
      "adaLN_modulation.1": "norm_out.linear",
    },
  },
  {
    layers: {
      "img_in.proj": "x_embedder.proj",
      ...embedder("time_in", TIME, "mlp.0", "mlp.2"),
      ...embedder("guidance_in", "time_text_embed.guidance_embedder", "mlp.0", "mlp.2"),
      ...embedder("vector_in", TEXT),
      "txt_in.input_embedder": "context_embedder.proj_in",
      ...embedder("txt_in.t_embedder", `context_embedder.${TIME}`, "mlp.0", "mlp.2"),
      ...embedder("txt_in.c_embedder", `context_embedder.${TEXT}`, "linear_1", "linear_2"),
      "final_layer.linear": "proj_out",
      "final_layer.adaLN_modulation.1": parts("norm_out.shift", "norm_out.scale"),
      "norm_out.linear": parts("norm_out.scale", "norm_out.shift"),
    },
  },
], /^model\./);

/**
 * The name in diffusers of a transformer's tensor in the layout of HunyuanVideo's repository, or in ComfyUI's, which
 * differs from it. Scale and shift of the output norm have names of their own, because their order differs.
 */
export const diffusersName: typeof named = (stored) => named(stored.replace(/(_norm)\.scale$/, "$1.weight"));

/** The layers of ComfyUI's autoencoder, and their names in diffusers. */
const VAE_ATTENTION: Readonly<Record<string, string>> = {
  ...{ norm: "group_norm", q: "to_q", k: "to_k", v: "to_v", proj_out: "to_out.0" },
};
/** ComfyUI counts the decoder's stages from the last one on. */
const LAST_STAGE = 3;

/** The name in diffusers of an autoencoder's tensor in ComfyUI's layout. Any other name is returned as it is. */
export function diffusersVaeName(stored: string): string {
  return stored
    .replace(/^encoder\.down\.(\d)\./, "encoder.down_blocks.$1.")
    .replace(/^decoder\.up\.(\d)\./, (_, stage) => `decoder.up_blocks.${LAST_STAGE - stage}.`)
    .replace(/(?<=_blocks\.\d)\.block\./, ".resnets.")
    .replace(/(?<=_blocks\.\d)\.(down|up)sample\./, ".$1samplers.0.")
    .replace(/\.mid\.block_(\d)\./, (_, number) => `.mid_block.resnets.${number - 1}.`)
    .replace(/\.mid\.attn_1\.(\w+)\./, (_, layer) => `.mid_block.attentions.0.${VAE_ATTENTION[layer] ?? layer}.`)
    .replace(".nin_shortcut.", ".conv_shortcut.")
    .replace(/^(\w+)\.norm_out\./, "$1.conv_norm_out.");
}

/** Two layers, by ComfyUI's names and, where they differ, the repository's. */
function embedder(name: string, family: string, ...others: readonly string[]): Record<string, string> {
  const layer = (i: number, end: string) => [`${name}.${end}`, `${family}.linear_${i + 1}`];
  return Object.fromEntries([
    ...["in_layer", "out_layer"].map((end, i) => layer(i, end)),
    ...others.map((end, i) => layer(i, end)),
  ]);
}
