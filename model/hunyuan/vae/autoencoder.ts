import type { Gpu } from "../../../gpu/gpu.ts";
import type { TensorSource } from "../../checkpoint/tensor_source.ts";
import type { VaePart } from "../../family.ts";
import type { OnProgress } from "../../progress.ts";
import { CausalAutoencoder, loadParts } from "../../vae/autoencoder.ts";
import type { VaeWeights } from "../../vae/weights.ts";
import type { VaeConfig } from "./config.ts";
import { Decoder } from "./decoder.ts";
import { Encoder } from "./encoder.ts";

/** HunyuanVideo's autoencoder, diffusers' `AutoencoderKLHunyuanVideo`, on the GPU. */
export class AutoencoderKLHunyuanVideo extends CausalAutoencoder {
  /**
   * Loads weights to the GPU.
   *
   * @param source stays open, and the caller's
   * @param onProgress told "load vae", in tensors
   * @param parts what is needed; both where absent
   * @throws {TilereelError} if a weight is missing, has another shape, or does not fit the GPU
   */
  static async load(
    gpu: Gpu,
    source: TensorSource,
    config: VaeConfig,
    onProgress?: OnProgress,
    parts?: readonly VaePart[],
  ): Promise<AutoencoderKLHunyuanVideo> {
    const load = {
      encoder: (weights: VaeWeights) => Encoder.load(weights, config),
      decoder: (weights: VaeWeights) => Decoder.load(weights, config),
    };
    return new AutoencoderKLHunyuanVideo(gpu, config, await loadParts(gpu, source, load, onProgress, parts));
  }
}
