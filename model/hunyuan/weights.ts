import type { PartWeights } from "../family.ts";

/** How the files of the transformer's weights are read. */
export const TRANSFORMER_WEIGHTS: PartWeights = {
  stem: "diffusion_pytorch_model",
  block: /^(?:single_)?transformer_blocks\.\d+\./,
};
