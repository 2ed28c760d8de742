import { layoutNames } from "../checkpoint/layout_names.ts";

/** The names of layers in Wan's repository, in blocks and outside, and their names in diffusers. */
const LAYERS = {
  // FastVideo's gate of self-attention, which it keeps beside its other layers.
  "to_gate_compress": "attn1.to_gate_compress",
  "self_attn.gate_compress": "attn1.to_gate_compress",
  ...attention("self_attn", "attn1"),
  ...attention("cross_attn", "attn2"),
  "cross_attn.k_img": "attn2.add_k_proj",
  "cross_attn.v_img": "attn2.add_v_proj",
  "cross_attn.norm_k_img": "attn2.norm_added_k",
  "ffn.0": "ffn.net.0.proj",
  "ffn.2": "ffn.net.2",
  norm3: "norm2",
  modulation: "scale_shift_table",
  "time_embedding.0": "condition_embedder.time_embedder.linear_1",
  "time_embedding.2": "condition_embedder.time_embedder.linear_2",
  "text_embedding.0": "condition_embedder.text_embedder.linear_1",
  "text_embedding.2": "condition_embedder.text_embedder.linear_2",
  "time_projection.1": "condition_embedder.time_proj",
  "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
  "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
  "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
  "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
  "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
  "head.head": "proj_out",
  "head.modulation": "scale_shift_table",
};

const named = layoutNames([{ blocks: ["blocks", "blocks"], layers: LAYERS }, { layers: LAYERS }]);

/** The name in diffusers of a Wan transformer's tensor. A table of modulation is its layer's only tensor. */
export const diffusersName: typeof named = (stored) => named(stored.replace(/(modulation|_table)\.weight$/, "$1"));

/** The names of the VAE's layers in Wan's repository, and their names in diffusers, but for the stages. */
const VAE_LAYERS: Readonly<Record<string, string>> = {
  "residual.0": "norm1",
  "residual.2": "conv1",
  "residual.3": "norm2",
  "residual.6": "conv2",
  shortcut: "conv_shortcut",
  "middle.0": "mid_block.resnets.0",
  "middle.1": "mid_block.attentions.0",
  "middle.2": "mid_block.resnets.1",
  "head.0": "norm_out",
  "head.2": "conv_out",
};
/** The blocks of a stage and its step to the next, which stand in one list in Wan's repository. */
const DOWN_STAGE = 3, STAGE = 4;

/** The name in diffusers of a Wan VAE's tensor, in Wan's own files and ComfyUI's. Any other name is returned as it is. */
export function diffusersVaeName(stored: string): string {
  if (/^conv[12]\./.test(stored)) return stored.replace("conv1", "quant_conv").replace("conv2", "post_quant_conv");
  if (!/^(en|de)coder\.(conv1|downsamples|middle|upsamples|head)\./.test(stored)) return stored;
  return stored.replace(/^(\w+)\.conv1\./, "$1.conv_in.")
    // Wan 2.2's has a list for each stage.
    .replace(/\.(down|up)samples\.(\d+)\.\1samples\.(\d+)\./, (_, way, stage, at) => {
      const isStep = Number(at) === (way === "down" ? DOWN_STAGE : STAGE) - 1;
      return `.${way}_blocks.${stage}.${isStep ? `${way}sampler` : `resnets.${at}`}.`;
    })
    .replace(".downsamples.", ".down_blocks.")
    .replace(/\.upsamples\.(\d+)\./, (_, number) => {
      const stage = Math.floor(number / STAGE), at = number % STAGE;
      return `.up_blocks.${stage}.${at === STAGE - 1 ? "upsamplers.0" : `resnets.${at}`}.`;
    })
    .replace(/(?<=\.)(residual\.\d|shortcut|middle\.\d|head\.\d)(?=\.)/g, (layer) => VAE_LAYERS[layer] ?? layer);
}

function attention(original: string, name: string): Record<string, string> {
  const layers = { q: "to_q", k: "to_k", v: "to_v", o: "to_out.0", norm_q: "norm_q", norm_k: "norm_k" };
  return Object.fromEntries(Object.entries(layers).map(([from, to]) => [`${original}.${from}`, `${name}.${to}`]));
}
