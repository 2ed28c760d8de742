import type { Gpu } from "../../../gpu/gpu.ts";
import type { TensorSource } from "../../checkpoint/tensor_source.ts";
import type { VaePart } from "../../family.ts";
import type { OnProgress } from "../../progress.ts";
import { CausalAutoencoder } from "../../vae/autoencoder.ts";
import { VaeWeights } from "../../vae/weights.ts";
import type { VaeConfig } from "./config.ts";
import { Decoder } from "./decoder.ts";
import { Encoder } from "./encoder.ts";

/** The prefix of the tensor names of each half. */
const PREFIXES = { encoder: ["encoder.", "quant_conv."], decoder: ["decoder.", "post_quant_conv."] };

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
    parts: readonly VaePart[] = ["encoder", "decoder"],
  ): Promise<AutoencoderKLHunyuanVideo> {
    using loading = new DisposableStack();
    const weights = loading.use(VaeWeights.open(gpu, source, parts.flatMap((part) => PREFIXES[part]), onProgress));
    const encoder = parts.includes("encoder") ? await Encoder.load(weights, config) : undefined;
    const decoder = parts.includes("decoder") ? await Decoder.load(weights, config) : undefined;
    const owned = loading.move();
    return new AutoencoderKLHunyuanVideo(gpu, config, { encoder, decoder, [Symbol.dispose]: () => owned.dispose() });
  }
}
