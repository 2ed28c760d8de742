import { TilereelError } from "../../gpu/common/errors.ts";
import type { Config } from "../checkpoint/json.ts";
import { whatTensorsAre } from "../checkpoint/tensor_names.ts";
import type { LooseModel, LooseTransformer, ModelPart } from "../family.ts";
import { baseName } from "../files/store.ts";
import { CLIP_PARTS, I2V_A14B, T2V_A14B, transformer_2 } from "./kinds.ts";

/** What a model says of itself, by what its transformer takes. */
type Said = Omit<LooseModel, "fits" | "scheduler"> & { readonly flowShift: number };

const TEXT_TO_VIDEO = "WanPipeline", IMAGE_TO_VIDEO = "WanImageToVideoPipeline";
/** Channels of latents, and of what a transformer takes of pictures beside them. */
const LATENTS = 16, LATENTS_22 = 48, PICTURES = 20;
/** Layers of the small model, of which there is no kind for pictures. */
const SMALL = 30;

/** The parts that some kind of Wan's models has. */
export const looseParts = (parts: Readonly<Record<string, ModelPart>>) => ({ ...parts, ...CLIP_PARTS, transformer_2 });

/**
 * The model of a transformer in a file of its own. What diffusers' folders have as flow shift is that of Wan 2.1 at 480p;
 * for Wan 2.2 it is that of Wan's own program.
 *
 * @throws {TilereelError} if it is of another kind, or is one of two
 */
export function modelOf(transformer: LooseTransformer): LooseModel {
  const { config } = transformer, { flowShift, ...said } = saidOf(transformer);
  const common = { prediction_type: "flow_prediction", use_flow_sigmas: true, num_train_timesteps: 1000 };
  return {
    ...said,
    scheduler: { _class_name: "UniPCMultistepScheduler", ...common, flow_shift: flowShift },
    fits: (part, other) => belongs(part, config, other),
  };
}

function belongs(part: string, transformer: Config, other: Config): boolean {
  const same = (key: string, own: string) => transformer.value(key) === other.value(own);
  if (part === "vae") return same("out_channels", "z_dim");
  if (part === "text_encoder") return same("text_dim", "d_model");
  return part !== "image_encoder" || same("image_dim", "hidden_size");
}

function saidOf({ path, config, weights, two }: LooseTransformer): Said {
  const takes = config.value("in_channels"), gives = config.value("out_channels"), name = baseName(path);
  const isPlain = !weights.names().some((name) => /^(vace_|control_|ref_conv|audio_|face_|motion_)/.test(name));
  if (isPlain && takes === LATENTS_22 && gives === LATENTS_22) {
    // Distilled with full attention, only the name tells.
    const index = { _class_name: pipelineOf(weights.has(GATE) || /fast-?wan/i.test(name)), expand_timesteps: true };
    return { index, flowShift: 5, like: "Wan-AI/Wan2.2-TI2V-5B-Diffusers" };
  }
  if (isPlain && takes === LATENTS && gives === LATENTS) {
    if (two) {
      const index = { _class_name: TEXT_TO_VIDEO, boundary_ratio: T2V_A14B.boundary };
      return { index, flowShift: 12, like: "Wan-AI/Wan2.2-T2V-A14B-Diffusers" };
    }
    checkAlone(path, "T2V");
    const size = config.value("num_layers") === SMALL ? "1.3B" : "14B";
    return {
      index: { _class_name: pipelineOf(weights.has(GATE)) },
      ...{ flowShift: 3, like: `Wan-AI/Wan2.1-T2V-${size}-Diffusers` },
    };
  }
  if (isPlain && takes === LATENTS + PICTURES && gives === LATENTS) {
    const index = { _class_name: IMAGE_TO_VIDEO };
    if (!config.isNull("pos_embed_seq_len")) {
      return { index, flowShift: 16, like: "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers" };
    }
    if (!config.isNull("image_dim")) {
      const large = /720p/i.test(name);
      return { index, flowShift: large ? 5 : 3, like: `Wan-AI/Wan2.1-I2V-14B-${large ? 720 : 480}P-Diffusers` };
    }
    if (!two) throw oneOfTwo(path, "I2V");
    return {
      index: { ...index, boundary_ratio: I2V_A14B.boundary },
      ...{ flowShift: 5, like: "Wan-AI/Wan2.2-I2V-A14B-Diffusers" },
    };
  }
  throw new TilereelError(
    `${path} is a file with ${
      whatTensorsAre(weights)
    }, of a kind that is not supported; use a transformer of Wan that ` +
      "makes video of text or of pictures alone",
  );
}

/** In models that have gates, each block has one. Those are FastVideo's, which were distilled. */
export const GATE = "blocks.0.attn1.to_gate_compress.weight";

const pipelineOf = (gated: boolean) => gated ? "WanDMDPipeline" : TEXT_TO_VIDEO;

/** Transformers of Wan 2.1 and one of Wan 2.2's two have the same shapes: only the name tells them apart. */
function checkAlone(path: string, kind: string): void {
  if (/(high|low)[-_. ]?noise/i.test(path)) throw oneOfTwo(path, kind);
}

function oneOfTwo(path: string, kind: string): TilereelError {
  return new TilereelError(
    `${path} is one of the two transformers of Wan 2.2 ${kind} A14B, and the other was not found; put both into one ` +
      'folder, with "high_noise" and "low_noise" in their names',
  );
}
