import type { PartWeights } from "../family.ts";
import { AUTOENCODER_WEIGHTS } from "../vae/autoencoder.ts";
import { configFromShapes, MARK } from "./config.ts";
import { vaeConfigFromShapes } from "./vae/shapes.ts";
import { diffusersName, diffusersVaeName } from "./original_names.ts";

/** The transformer's. */
export const TRANSFORMER_WEIGHTS: PartWeights = {
  stem: "diffusion_pytorch_model",
  names: diffusersName,
  marks: [MARK, "blocks.0.attn1.to_q.weight"],
  configFromShapes,
  block: /^blocks\.\d+\./,
  quantised: (name) => /^blocks\.\d+\.(?:attn[12]|ffn)\..*weight$/.test(name),
};

/** The autoencoder's. */
export const VAE_WEIGHTS: PartWeights = {
  ...AUTOENCODER_WEIGHTS,
  names: diffusersVaeName,
  // Other autoencoders have biases in their norms, and no gammas.
  marks: ["post_quant_conv.weight", "decoder.mid_block.resnets.0.norm1.gamma"],
  configFromShapes: vaeConfigFromShapes,
};
