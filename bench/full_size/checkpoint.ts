/**
 * A checkpoint of Wan 2.1 T2V 1.3B's shape with random weights.
 *
 * @module
 */
import { readVaeConfig } from "../../model/wan/vae/config.ts";
import { readTransformerConfig } from "../../model/wan/config.ts";
import { type StoredDtype, writeRandomWeights } from "./random_weights.ts";
import { transformerTensors, vaeTensors } from "./tensor_spec.ts";

const MODEL_INDEX = {
  _class_name: "WanPipeline",
  scheduler: ["diffusers", "UniPCMultistepScheduler"],
  text_encoder: [null, null],
  tokenizer: [null, null],
  transformer: ["diffusers", "WanTransformer3DModel"],
  vae: ["diffusers", "AutoencoderKLWan"],
};

const SCHEDULER = {
  _class_name: "UniPCMultistepScheduler",
  flow_shift: 3.0,
  num_train_timesteps: 1000,
  prediction_type: "flow_prediction",
  solver_order: 2,
  solver_type: "bh2",
  use_flow_sigmas: true,
};

/** `config.json` of Wan 2.1 T2V 1.3B's transformer. */
const TRANSFORMER = {
  _class_name: "WanTransformer3DModel",
  attention_head_dim: 128,
  cross_attn_norm: true,
  eps: 1e-6,
  ffn_dim: 8960,
  freq_dim: 256,
  in_channels: 16,
  num_attention_heads: 12,
  num_layers: 30,
  out_channels: 16,
  patch_size: [1, 2, 2],
  qk_norm: "rms_norm_across_heads",
  rope_max_seq_len: 1024,
  text_dim: 4096,
};

/** Means and deviations of the latents are left out: Wan's are the defaults. */
export const VAE = {
  _class_name: "AutoencoderKLWan",
  base_dim: 96,
  dim_mult: [1, 2, 4, 4],
  num_res_blocks: 2,
  temperal_downsample: [false, true, true],
  z_dim: 16,
};

/** Values that stand instead of the full size's, under the names of `config.json`. */
export interface Changes {
  /** What the transformer is stored in. Default: BF16, as converted checkpoints; Wan-AI's are F32. */
  readonly stored?: StoredDtype;
  readonly transformer?: Readonly<Record<string, unknown>>;
  readonly vae?: Readonly<Record<string, unknown>>;
}

/**
 * Writes the model into `dir`, which is made: a transformer in shards, an f32 VAE, a scheduler; no text encoder.
 *
 * @returns bytes of the weights
 */
export async function writeRandomCheckpoint(dir: string, changes: Changes = {}): Promise<number> {
  const configs = {
    transformer: { ...TRANSFORMER, ...changes.transformer },
    vae: { ...VAE, ...changes.vae },
  };
  for (const part of ["transformer", "vae", "scheduler"]) await Deno.mkdir(`${dir}/${part}`, { recursive: true });
  await writeJson(`${dir}/model_index.json`, MODEL_INDEX);
  await writeJson(`${dir}/scheduler/scheduler_config.json`, SCHEDULER);
  await writeJson(`${dir}/transformer/config.json`, configs.transformer);
  await writeJson(`${dir}/vae/config.json`, configs.vae);
  const transformer = transformerTensors(await readTransformerConfig(`${dir}/transformer/config.json`));
  const vae = vaeTensors(await readVaeConfig(`${dir}/vae/config.json`));
  return await writeRandomWeights(`${dir}/transformer`, transformer, changes.stored ?? "BF16") +
    await writeRandomWeights(`${dir}/vae`, vae, "F32");
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await Deno.writeTextFile(path, JSON.stringify(value, null, 2));
}
