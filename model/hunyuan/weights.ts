import type { PartWeights } from "../family.ts";
import { diffusersName } from "./original_names.ts";

const stem = "diffusion_pytorch_model";

/** How the files of the transformer's weights are read. */
export const TRANSFORMER_WEIGHTS: PartWeights = {
  stem,
  names: diffusersName,
  block: /^(?:single_)?transformer_blocks\.\d+\./,
};

/** The autoencoder's. Only the decoder is needed to render, and it is converted to f32. */
export const VAE_WEIGHTS: PartWeights = {
  stem,
  used: (name) => !/^(encoder|quant_conv)\./.test(name),
  widened: true,
};
