import { readVaeConfig } from "../../model/wan/vae/config.ts";
import { readTransformerConfig } from "../../model/wan/config.ts";
import { type MadeDtype, SHAPES, WAN_VAE } from "../shapes.ts";
import { writeRandomWeights } from "./random_weights.ts";
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
  prediction_type: "flow_prediction",
  use_flow_sigmas: true,
};

/** The differences from Wan 2.1 T2V 1.3B. */
export interface Changes {
  /** The format of the transformer's files. Default: BF16, as in converted checkpoints; Wan-AI's are F32. */
  readonly stored?: MadeDtype;
  /** Values of `config.json`. */
  readonly transformer?: Readonly<Record<string, unknown>>;
  readonly vae?: Readonly<Record<string, unknown>>;
}

/**
 * Writes a model of Wan 2.1 T2V's shape with random weights into a new folder: a transformer in shards, an f32 VAE and
 * a scheduler, but no text encoder.
 *
 * @returns the bytes of the weights
 */
export async function writeRandomCheckpoint(dir: string, changes: Changes = {}): Promise<number> {
  const transformerFile = `${dir}/transformer/config.json`, vaeFile = `${dir}/vae/config.json`;
  const files = {
    [`${dir}/model_index.json`]: MODEL_INDEX,
    [`${dir}/scheduler/scheduler_config.json`]: SCHEDULER,
    [transformerFile]: { ...SHAPES["1.3b"].json, ...changes.transformer },
    [vaeFile]: { ...WAN_VAE, ...changes.vae },
  };
  for (const part of ["transformer", "vae", "scheduler"]) await Deno.mkdir(`${dir}/${part}`, { recursive: true });
  for (const [path, value] of Object.entries(files)) await Deno.writeTextFile(path, JSON.stringify(value, null, 2));
  const transformer = transformerTensors(await readTransformerConfig(transformerFile));
  return await writeRandomWeights(`${dir}/transformer`, transformer, changes.stored ?? "BF16") +
    await writeRandomWeights(`${dir}/vae`, vaeTensors(await readVaeConfig(vaeFile)), "F32");
}
