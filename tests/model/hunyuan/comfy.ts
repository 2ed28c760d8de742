/** Parts of HunyuanVideo under the names that ComfyUI's files have, made of parts in the layout of diffusers. */
import type { TensorSource } from "../../../model/checkpoint/tensor_source.ts";
import type { TensorToWrite } from "../../../model/checkpoint/write_safetensors.ts";

type Renaming = readonly [diffusers: RegExp, comfy: string];

/** In blocks of each kind, and outside. The first that fits holds. */
const TRANSFORMER: readonly Renaming[] = [
  [/^transformer_blocks\.(\d+)\.norm1\.linear\./, "double_blocks.$1.img_mod.lin."],
  [/^transformer_blocks\.(\d+)\.norm1_context\.linear\./, "double_blocks.$1.txt_mod.lin."],
  [/^transformer_blocks\.(\d+)\.attn\.to_[qkv]\./, "double_blocks.$1.img_attn.qkv."],
  [/^transformer_blocks\.(\d+)\.attn\.add_[qkv]_proj\./, "double_blocks.$1.txt_attn.qkv."],
  [/^transformer_blocks\.(\d+)\.attn\.norm_q\.weight/, "double_blocks.$1.img_attn.norm.query_norm.scale"],
  [/^transformer_blocks\.(\d+)\.attn\.norm_k\.weight/, "double_blocks.$1.img_attn.norm.key_norm.scale"],
  [/^transformer_blocks\.(\d+)\.attn\.norm_added_q\.weight/, "double_blocks.$1.txt_attn.norm.query_norm.scale"],
  [/^transformer_blocks\.(\d+)\.attn\.norm_added_k\.weight/, "double_blocks.$1.txt_attn.norm.key_norm.scale"],
  [/^transformer_blocks\.(\d+)\.attn\.to_out\.0\./, "double_blocks.$1.img_attn.proj."],
  [/^transformer_blocks\.(\d+)\.attn\.to_add_out\./, "double_blocks.$1.txt_attn.proj."],
  [/^transformer_blocks\.(\d+)\.ff\.net\.0\.proj\./, "double_blocks.$1.img_mlp.0."],
  [/^transformer_blocks\.(\d+)\.ff\.net\.2\./, "double_blocks.$1.img_mlp.2."],
  [/^transformer_blocks\.(\d+)\.ff_context\.net\.0\.proj\./, "double_blocks.$1.txt_mlp.0."],
  [/^transformer_blocks\.(\d+)\.ff_context\.net\.2\./, "double_blocks.$1.txt_mlp.2."],
  [/^single_transformer_blocks\.(\d+)\.norm\.linear\./, "single_blocks.$1.modulation.lin."],
  [/^single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight/, "single_blocks.$1.norm.query_norm.scale"],
  [/^single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight/, "single_blocks.$1.norm.key_norm.scale"],
  [/^single_transformer_blocks\.(\d+)\.(?:attn\.to_[qkv]|proj_mlp)\./, "single_blocks.$1.linear1."],
  [/^single_transformer_blocks\.(\d+)\.proj_out\./, "single_blocks.$1.linear2."],
  [/^context_embedder\.token_refiner\.refiner_blocks/, "txt_in.individual_token_refiner.blocks"],
  [/^context_embedder\.proj_in/, "txt_in.input_embedder"],
  [/^context_embedder\.time_text_embed\.timestep_embedder/, "txt_in.t_embedder"],
  [/^context_embedder\.time_text_embed\.text_embedder/, "txt_in.c_embedder"],
  [/^time_text_embed\.timestep_embedder/, "time_in"],
  [/^time_text_embed\.guidance_embedder/, "guidance_in"],
  [/^time_text_embed\.text_embedder/, "vector_in"],
  [/^x_embedder/, "img_in"],
  [/^proj_out/, "final_layer.linear"],
  [/^norm_out\.linear/, "final_layer.adaLN_modulation.1"],
];
/** The layers of the token refiner and of embedders, whose blocks were renamed above. */
const REST: readonly Renaming[] = [
  [/^(txt_in\..*blocks\.\d+)\.attn\.to_[qkv]/, "$1.self_attn.qkv"],
  [/^(txt_in\..*blocks\.\d+)\.attn\.to_out\.0/, "$1.self_attn.proj"],
  [/^(txt_in\..*blocks\.\d+)\.ff\.net\.0\.proj/, "$1.mlp.0"],
  [/^(txt_in\..*blocks\.\d+)\.ff\.net\.2/, "$1.mlp.2"],
  [/^(txt_in\..*blocks\.\d+)\.norm_out\.linear/, "$1.adaLN_modulation.1"],
  [/^((?:txt_in\.)?\w+)\.linear_1/, "$1.in_layer"],
  [/^((?:txt_in\.)?\w+)\.linear_2/, "$1.out_layer"],
];

/** The orders of rows in fused layers. */
const PARTS = [/_q[._]/, /_k[._]/, /_v[._]/, /proj_mlp/];

const VAE: readonly Renaming[] = [
  [/^encoder\.down_blocks\.(\d)\.resnets\./, "encoder.down.$1.block."],
  [/^encoder\.down_blocks\.(\d)\.downsamplers\.0\./, "encoder.down.$1.downsample."],
  [/^decoder\.up_blocks\.0\./, "decoder.up.3."],
  [/^decoder\.up_blocks\.1\./, "decoder.up.2."],
  [/^decoder\.up_blocks\.2\./, "decoder.up.1."],
  [/^decoder\.up_blocks\.3\./, "decoder.up.0."],
  [/^(\w+)\.mid_block\.resnets\.0\./, "$1.mid.block_1."],
  [/^(\w+)\.mid_block\.resnets\.1\./, "$1.mid.block_2."],
  [/^(\w+)\.mid_block\.attentions\.0\.group_norm\./, "$1.mid.attn_1.norm."],
  [/^(\w+)\.mid_block\.attentions\.0\.to_([qkv])\./, "$1.mid.attn_1.$2."],
  [/^(\w+)\.mid_block\.attentions\.0\.to_out\.0\./, "$1.mid.attn_1.proj_out."],
  [/^(\w+)\.conv_norm_out\./, "$1.norm_out."],
];

function renamed(name: string, renamings: readonly Renaming[]): string {
  const [from, to] = renamings.find(([from]) => from.test(name)) ?? [/^/, ""];
  return name.replace(from, to);
}

/** As `hunyuan_video_t2v_720p_bf16.safetensors` has it. A single block's layers are fused if its MLP is as wide as there. */
export async function comfyTransformer(source: TensorSource): Promise<Record<string, TensorToWrite>> {
  const fused = new Map<string, string[]>();
  for (const name of source.names()) {
    const [block] = /^single_transformer_blocks\.\d+\./.exec(name) ?? [];
    const rows = (layer: string) => source.info(`${block}${layer}.bias`).shape[0]!;
    const isNarrow = block !== undefined && rows("proj_mlp") !== 4 * rows("attn.to_q");
    const comfy = isNarrow && /attn\.to_|proj_mlp/.test(name)
      ? name.replace("single_transformer_blocks", "single_blocks")
      : renamed(renamed(name, TRANSFORMER), REST);
    fused.set(comfy, [...fused.get(comfy) ?? [], name]);
  }
  const tensors: Record<string, TensorToWrite> = {};
  for (const [comfy, names] of fused) {
    const place = (name: string) => PARTS.findIndex((part) => part.test(name));
    if (names.length > 1) names.sort((a, b) => place(a) - place(b));
    const { dtype, shape: [, ...inputs] } = source.info(names[0]!);
    let data = joined(await Promise.all(names.map((name) => source.read(name))));
    // diffusers has the scale first, and ComfyUI the shift.
    if (comfy.startsWith("final_layer.adaLN")) {
      data = joined([data.subarray(data.length / 2), data.subarray(0, data.length / 2)]);
    }
    const rows = names.reduce((sum, name) => sum + source.info(name).shape[0]!, 0);
    tensors[`model.model.${comfy}`] = { dtype, shape: [rows, ...inputs], data };
  }
  return tensors;
}

/** As ComfyUI has it in memory: attention of 1×1×1 convolutions. */
export async function comfyVae(source: TensorSource): Promise<Record<string, TensorToWrite>> {
  const tensors: Record<string, TensorToWrite> = {};
  for (const name of source.names()) {
    const comfy = renamed(name, VAE).replace(/^(decoder\.up\.\d)\.resnets\./, "$1.block.")
      .replace(/^(decoder\.up\.\d)\.upsamplers\.0\./, "$1.upsample.").replace(".conv_shortcut.", ".nin_shortcut.");
    const { dtype, shape } = source.info(name), ones = /attn_1\.(q|k|v|proj_out)\.weight$/.test(comfy) ? [1, 1, 1] : [];
    tensors[comfy] = {
      dtype: dtype as TensorToWrite["dtype"],
      shape: [...shape, ...ones],
      data: await source.read(name),
    };
  }
  return tensors;
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
