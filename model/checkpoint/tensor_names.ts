import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { MATRIX_DTYPES } from "./dtype.ts";
import type { TensorInfo, TensorSource } from "./tensor_source.ts";

/** Kinds of updates that are not read, by their tensors' names. */
const OTHER_UPDATES: readonly (readonly [name: RegExp, kind: string])[] = [
  [/\.hada_/, "LoHa"],
  [/\.lokr_/, "LoKr"],
  [/\.dora_scale$|\.lora_magnitude_vector/, "DoRA"],
  [/\.oft_|\.boft_/, "OFT"],
];

/** The kind of update that a tensor belongs to, if it is one that is not read: "LoHa". */
export function otherUpdate(stored: string): string | undefined {
  return OTHER_UPDATES.find(([name]) => name.test(stored))?.[1];
}

/** The required knowledge of a file: the names of its tensors, and their descriptions. */
export interface NamedTensors {
  names(): string[];
  has(name: string): boolean;
  info(name: string): TensorInfo;
}

/** The prefixes that ComfyUI and others put before the names of a transformer. */
const PREFIX = /^(model\.diffusion_model|diffusion_model|model)\./;

/**
 * Says what a file of tensors is, for errors where a model part, an adapter or a router is given in place of another:
 * "a Wan transformer …". If the names are not recognised, it gives their number and one name.
 */
export function whatTensorsAre(source: NamedTensors): string {
  const names = source.names(), bare = new Map(names.map((name) => [name.replace(PREFIX, ""), name]));
  const has = (...wanted: readonly string[]) => wanted.some((name) => bare.has(name));
  const some = (pattern: RegExp) => names.some((name) => pattern.test(name));
  const other = names.map(otherUpdate).find((kind) => kind !== undefined);
  if (other !== undefined) return `a ${other}, which is not supported`;
  if (some(/\.lora_(A|B|up|down)\b|\.lora_(unet|te)_|^lora_/)) return "a LoRA";
  if (some(/\brouter\.linear\.(weight|bias)$/)) return "a router of VORTA";
  if (some(/^tiles\.(shapes|choices)$|\.tiles\.project_[qk]$/)) return "tiles of Veda";
  if (has("blocks.0.self_attn.q.weight")) return wanTransformer(source, bare);
  if (has("blocks.0.attn1.to_q.weight") && some(/^condition_embedder\./)) {
    return "a Wan transformer in the diffusers layout" + unreadDtype(source, bare.get("blocks.0.attn1.to_q.weight")!);
  }
  if (has("input_blocks.0.0.weight")) return "a Stable Diffusion checkpoint";
  if (has("txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.weight")) return "a HunyuanVideo transformer";
  if (has("double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_attn_qkv.weight")) {
    return "a Flux or HunyuanVideo transformer";
  }
  if (has("encoder.block.0.layer.0.SelfAttention.q.weight")) return "a T5 text encoder";
  if (has("blocks.0.attn.q.weight") && has("token_embedding.weight")) {
    return "Wan's text encoder (UMT5) in the original layout";
  }
  if (some(/^(vision_model|visual)\./)) return "a CLIP image encoder";
  if (has("decoder.middle.0.residual.0.gamma")) return "Wan's VAE in the original layout";
  if (has("decoder.conv_in.weight", "decoder.conv_in.conv.weight")) return "a VAE";
  if (has("prompt_embeds")) return "text embeddings";
  if (has("latents", "latents.init")) return "latents";
  if (names.length === 0) return "nothing";
  return names.length === 1
    ? `the tensor ${quoted(names[0]!)} alone`
    : `${names.length} tensors such as ${quoted(names[0]!)}`;
}

/** The error for a file whose tensors are not what was wanted ("a transformer of Wan 2.1"). */
export function otherTensors(source: TensorSource, wanted: string): TilereelError {
  const is = `a file with ${whatTensorsAre(source)}`;
  return new TilereelError(`${source.path} is ${is}, but ${wanted} was expected; name another file`);
}

/** Wan's own names. The shape of the first layer and extra parts show which of Wan's transformers it is. */
function wanTransformer(source: NamedTensors, bare: ReadonlyMap<string, string>): string {
  const [dim, channels] = bare.has("patch_embedding.weight")
    ? source.info(bare.get("patch_embedding.weight")!).shape
    : [];
  const does = bare.has("vace_blocks.0.self_attn.q.weight")
    ? "VACE"
    : bare.has("img_emb.emb_pos")
    ? "first and last frame to video"
    : bare.has("img_emb.proj.0.weight") || channels === 36
    ? "image to video"
    : channels === 48
    ? "Wan 2.2 TI2V 5B"
    : channels === 16
    ? "text to video"
    : undefined;
  const size = { 1536: "1.3B", 5120: "14B" }[dim ?? 0];
  const known = [does, size].filter((word) => word !== undefined).join(", ");
  return `a Wan transformer in the original layout${known && ` (${known})`}, as ComfyUI has it` +
    unreadDtype(source, bare.get("blocks.0.self_attn.q.weight")!);
}

/** Says so if matrices are stored in a dtype that is not read. */
function unreadDtype(source: NamedTensors, matrix: string): string {
  const { dtype } = source.info(matrix);
  return MATRIX_DTYPES.includes(dtype) ? "" : `, in ${dtype}, which is not read`;
}
