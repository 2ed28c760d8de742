/**
 * One forward pass of the demo model's transformer.
 *
 * @module
 */
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { readTransformerConfig } from "../../model/wan/config.ts";
import { WanTransformer3DModel } from "../../model/wan/transformer.ts";
import type { Case } from "../case.ts";
import { normalTensor } from "../random.ts";

/** Latent frames, height and width of the model's default clip of 29 frames of 128x128. */
const LATENTS = [8, 16, 16] as const;
const TEXT_TOKENS = 32;

/** The benchmark case of one forward pass. */
export const transformerCase: Case = {
  name: "demo transformer, 29 frames of 128×128",
  prepare: async (gpu) => {
    const folder = `${embeddedModelDir()}/transformer`;
    const config = await readTransformerConfig(`${folder}/config.json`);
    using source = await openCheckpoint(folder, "diffusion_pytorch_model");
    const transformer = await WanTransformer3DModel.load(gpu, source, config);
    const latents = normalTensor(gpu, [1, config.inChannels, ...LATENTS]);
    const conditioning = { text: normalTensor(gpu, [1, TEXT_TOKENS, config.textDim]) };
    return {
      work: async () => {
        for (const velocity of await transformer.predict([{ latents, timesteps: [500], conditioning }])) {
          gpu.release(velocity);
        }
      },
      release: () => {
        transformer[Symbol.dispose]();
        [latents, conditioning.text].forEach((t) => gpu.release(t));
      },
    };
  },
};
