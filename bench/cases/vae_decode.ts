/**
 * Decoding with the demo model's VAE.
 *
 * @module
 */
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { AutoencoderKLWan } from "../../model/wan/vae/autoencoder.ts";
import { readVaeConfig } from "../../model/wan/vae/config.ts";
import type { Case, Size } from "../case.ts";
import { normalTensor } from "../random.ts";

/** Latent frames: the whole of the model's default clip, or the first five frames. */
const LATENT_FRAMES: Readonly<Record<Size, number>> = { small: 2, large: 8 };
/** Of 128x128 pixels. */
const LATENT_EDGE = 16;

/** The case of a size. */
export function vaeDecodeCase(size: Size): Case {
  const latentFrames = LATENT_FRAMES[size];
  return {
    name: `demo VAE decode, ${4 * latentFrames - 3} frames of 128×128`,
    prepare: async (gpu) => {
      const folder = `${embeddedModelDir()}/vae`;
      const config = await readVaeConfig(`${folder}/config.json`);
      using source = await openCheckpoint(folder, "diffusion_pytorch_model");
      const vae = await AutoencoderKLWan.load(gpu, source, config, undefined, ["decoder"]);
      const latents = normalTensor(gpu, [1, config.zDim, latentFrames, LATENT_EDGE, LATENT_EDGE]);
      return {
        work: () => vae.decodeRgb8(latents),
        release: () => {
          vae[Symbol.dispose]();
          gpu.release(latents);
        },
      };
    },
  };
}
