import type { PartWeights } from "../family.ts";
import { AUTOENCODER_WEIGHTS } from "../vae/autoencoder.ts";
import { diffusersName, diffusersVaeName } from "./original_names.ts";
import { configFromShapes, TRANSFORMER_MARKS, VAE_MARKS, vaeConfigFromShapes } from "./shapes.ts";

/** How the files of the transformer's weights are read. */
export const TRANSFORMER_WEIGHTS: PartWeights = {
  stem: "diffusion_pytorch_model",
  names: diffusersName,
  fused: ["norm_out.linear.weight", "norm_out.linear.bias"],
  marks: TRANSFORMER_MARKS,
  configFromShapes,
  block: /^(?:single_)?transformer_blocks\.\d+\./,
  // Not the layers that make shift, scale and gate, which start with "norm".
  quantised: (name) => /^(?:single_)?transformer_blocks\.\d+\.(?!norm).*weight$/.test(name),
};

/** The autoencoder's. */
export const VAE_WEIGHTS: PartWeights = {
  ...AUTOENCODER_WEIGHTS,
  names: diffusersVaeName,
  flat: (name) => /\.attentions\.\d+\.to_(?:[qkv]|out\.0)\.weight$/.test(name),
  marks: VAE_MARKS,
  configFromShapes: vaeConfigFromShapes,
};
