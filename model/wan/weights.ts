import type { PartWeights } from "../family.ts";
import { AUTOENCODER_WEIGHTS } from "../vae/autoencoder.ts";
import { configFromShapes } from "./config.ts";
import { diffusersName, diffusersVaeName } from "./original_names.ts";

/** The transformer's. */
export const TRANSFORMER_WEIGHTS: PartWeights = {
  stem: "diffusion_pytorch_model",
  names: diffusersName,
  configFromShapes,
  block: /^blocks\.\d+\./,
  quantised: (name) => /^blocks\.\d+\.(?:attn[12]|ffn)\..*weight$/.test(name),
};

/** The autoencoder's. */
export const VAE_WEIGHTS: PartWeights = { ...AUTOENCODER_WEIGHTS, names: diffusersVaeName };
