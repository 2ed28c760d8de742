import { readTransformerConfig as readHunyuanConfig } from "../../model/hunyuan/config.ts";
import { readVaeConfig as readHunyuanVaeConfig } from "../../model/hunyuan/vae/config.ts";
import { readVaeConfig } from "../../model/wan/vae/config.ts";
import { readTransformerConfig } from "../../model/wan/config.ts";
import { HUNYUAN_VAE, type MadeDtype, SHAPES, WAN_VAE } from "../shapes.ts";
import { hunyuanTransformerTensors } from "./hunyuan_tensors.ts";
import { hunyuanVaeTensors } from "./hunyuan_vae_tensors.ts";
import { writeRandomWeights } from "./random_weights.ts";
import { type TensorSpec, transformerTensors, vaeTensors } from "./tensor_spec.ts";

/** The files of a family's model, and the tensors that a part with such a `config.json` has. */
interface Layout {
  readonly index: Readonly<Record<string, unknown>>;
  readonly scheduler: Readonly<Record<string, unknown>>;
  readonly transformer: Readonly<Record<string, unknown>>;
  readonly vae: Readonly<Record<string, unknown>>;
  readonly transformerTensors: (configFile: string) => Promise<TensorSpec[]>;
  readonly vaeTensors: (configFile: string) => Promise<TensorSpec[]>;
}

const LAYOUTS = {
  wan: {
    index: {
      _class_name: "WanPipeline",
      scheduler: ["diffusers", "UniPCMultistepScheduler"],
      text_encoder: [null, null],
      tokenizer: [null, null],
      transformer: ["diffusers", "WanTransformer3DModel"],
      vae: ["diffusers", "AutoencoderKLWan"],
    },
    scheduler: {
      _class_name: "UniPCMultistepScheduler",
      flow_shift: 3.0,
      prediction_type: "flow_prediction",
      use_flow_sigmas: true,
    },
    transformer: SHAPES["1.3b"].json,
    vae: WAN_VAE,
    transformerTensors: async (file) => transformerTensors(await readTransformerConfig(file)),
    vaeTensors: async (file) => vaeTensors(await readVaeConfig(file)),
  },
  hunyuan: {
    index: {
      _class_name: "HunyuanVideoPipeline",
      scheduler: ["diffusers", "FlowMatchEulerDiscreteScheduler"],
      ...Object.fromEntries(
        ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"].map((part) => [part, [null, null]]),
      ),
      transformer: ["diffusers", "HunyuanVideoTransformer3DModel"],
      vae: ["diffusers", "AutoencoderKLHunyuanVideo"],
    },
    scheduler: { _class_name: "FlowMatchEulerDiscreteScheduler", shift: 7.0, use_dynamic_shifting: false },
    transformer: SHAPES.hunyuan.json,
    vae: HUNYUAN_VAE,
    transformerTensors: async (file) => hunyuanTransformerTensors(await readHunyuanConfig(file)),
    vaeTensors: async (file) => hunyuanVaeTensors(await readHunyuanVaeConfig(file)),
  },
} satisfies Record<string, Layout>;

/** The differences from Wan 2.1 T2V 1.3B. */
export interface Changes {
  readonly family?: keyof typeof LAYOUTS;
  /** The format of the transformer's files. Default: BF16, as in converted checkpoints; Wan-AI's are F32. */
  readonly stored?: MadeDtype;
  /** Values of `config.json`. */
  readonly transformer?: Readonly<Record<string, unknown>>;
  readonly vae?: Readonly<Record<string, unknown>>;
}

/**
 * Writes a model with random weights into a folder: a transformer in shards, an f32 VAE and a scheduler, but no text
 * encoder. Its shape is that of Wan 2.1 T2V 1.3B or of HunyuanVideo.
 *
 * @returns the bytes of the weights
 */
export async function writeRandomCheckpoint(dir: string, changes: Changes = {}): Promise<number> {
  const layout: Layout = LAYOUTS[changes.family ?? "wan"];
  const transformerFile = `${dir}/transformer/config.json`, vaeFile = `${dir}/vae/config.json`;
  const files = {
    [`${dir}/model_index.json`]: layout.index,
    [`${dir}/scheduler/scheduler_config.json`]: layout.scheduler,
    [transformerFile]: { ...layout.transformer, ...changes.transformer },
    [vaeFile]: { ...layout.vae, ...changes.vae },
  };
  for (const part of ["transformer", "vae", "scheduler"]) await Deno.mkdir(`${dir}/${part}`, { recursive: true });
  for (const [path, value] of Object.entries(files)) await Deno.writeTextFile(path, JSON.stringify(value, null, 2));
  const transformer = await layout.transformerTensors(transformerFile);
  return await writeRandomWeights(`${dir}/transformer`, transformer, changes.stored ?? "BF16") +
    await writeRandomWeights(`${dir}/vae`, await layout.vaeTensors(vaeFile), "F32");
}
