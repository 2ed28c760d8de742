import type { PartWeights } from "../family.ts";
import { configFromShapes } from "./config.ts";
import { diffusersName, diffusersVaeName } from "./original_names.ts";

const stem = "diffusion_pytorch_model";

/** The transformer's. */
export const TRANSFORMER_WEIGHTS: PartWeights = {
  stem,
  names: diffusersName,
  configFromShapes,
  block: /^blocks\.\d+\./,
};

/** The autoencoder's. Only the decoder is needed to render, and it is converted to f32. */
export const VAE_WEIGHTS: PartWeights = {
  stem,
  names: diffusersVaeName,
  used: (name) => !/^(encoder|quant_conv)\./.test(name),
  widened: true,
};
