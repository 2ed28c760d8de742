import type { PartWeights } from "../family.ts";
import { AUTOENCODER_WEIGHTS } from "../vae/autoencoder.ts";
import { diffusersName } from "./original_names.ts";

/** How the files of the transformer's weights are read. */
export const TRANSFORMER_WEIGHTS: PartWeights = {
  stem: "diffusion_pytorch_model",
  names: diffusersName,
  block: /^(?:single_)?transformer_blocks\.\d+\./,
};

/** The autoencoder's. */
export const VAE_WEIGHTS: PartWeights = AUTOENCODER_WEIGHTS;
