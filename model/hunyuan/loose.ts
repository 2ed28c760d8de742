import { TilereelError } from "../../gpu/common/errors.ts";
import type { Config } from "../checkpoint/json.ts";
import { whatTensorsAre } from "../checkpoint/tensor_names.ts";
import type { LooseModel, LooseTransformer } from "../family.ts";

/** Channels of latents. Models that take pictures have more. */
const LATENTS = 16;

/**
 * The model of a transformer in a file of its own.
 *
 * @throws {TilereelError} if it is of another kind
 */
export function modelOf({ path, weights, config }: LooseTransformer): LooseModel {
  if (config.value("in_channels") !== LATENTS) {
    throw new TilereelError(
      `${path} is a file with ${whatTensorsAre(weights)} that takes ${
        config.value("in_channels")
      } channels, but one of ` +
        `text to video takes ${LATENTS}; use that`,
    );
  }
  return {
    index: { _class_name: "HunyuanVideoPipeline" },
    scheduler: { _class_name: "FlowMatchEulerDiscreteScheduler", num_train_timesteps: 1000, shift: 7 },
    like: "hunyuanvideo-community/HunyuanVideo",
    fits: (part, other) => belongs(part, config, other),
  };
}

function belongs(part: string, transformer: Config, other: Config): boolean {
  const same = (key: string, own: string) => transformer.value(key) === other.value(own);
  if (part === "vae") return same("out_channels", "latent_channels");
  if (part === "text_encoder") return same("text_embed_dim", "hidden_size");
  return part !== "text_encoder_2" || same("pooled_projection_dim", "hidden_size");
}
