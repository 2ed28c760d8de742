import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { PartPlace } from "../checkpoint/part_place.ts";
import { openCheckpoint } from "../checkpoint/sharded.ts";
import { otherTensors } from "../checkpoint/tensor_names.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import type { FamilyModel, VaePart } from "../family.ts";
import type { OnProgress } from "../progress.ts";
import type { Video } from "../video/video.ts";
import { CausalAutoencoder, type LatentSpace, loadParts } from "../vae/autoencoder.ts";
import { isTiny, TinyDecoder, tinySizes } from "./decoder.ts";

/** Pixels along the edge of what one channel of the last convolution stands for. */
const SCALE = 8;

/** A tiny autoencoder in place of a model's own. It only decodes. */
export class TinyAutoencoder extends CausalAutoencoder {
  /**
   * Opens a file, and loads it to decode a model's latents.
   *
   * @throws {TilereelError} as {@link load} does, or if it cannot be read or is none
   */
  static async open(
    gpu: Gpu,
    place: PartPlace,
    model: Pick<FamilyModel, "family" | "latentShape">,
    onProgress?: OnProgress,
  ): Promise<TinyAutoencoder> {
    using source = await openCheckpoint(place, "diffusion_pytorch_model");
    if (!isTiny(source)) throw otherTensors(source, "a tiny autoencoder (TAEHV)");
    const { side, frames } = model.family.multiples, clip = { width: side, height: side, frames: 1 };
    const [, zDim, , , width] = model.latentShape(clip) as [number, number, number, number, number];
    const large = { zDim, outChannels: 3, spatialScale: side / width, temporalScale: frames };
    return await TinyAutoencoder.load(
      gpu,
      source,
      { ...large, latentsMean: Array(zDim).fill(0), latentsStd: Array(zDim).fill(1) },
      onProgress,
      ["decoder"],
    );
  }

  /** Decodes latents as the transformer has them. */
  async decodeClip(latents: Tensor): Promise<Omit<Video, "fps">> {
    const [frames, height, width] = latents.shape.slice(2) as [number, number, number], { spatialScale } = this.config;
    const data = await this.decodeRgb8(latents);
    return { width: width * spatialScale, height: height * spatialScale, frames: this.framesOf(frames), data };
  }

  /**
   * Loads its weights to the GPU.
   *
   * @param source stays open, and the caller's
   * @param large the latents of the model's own autoencoder
   * @throws {TilereelError} if it is for other latents, a weight is missing or has another shape, or the encoder is wanted
   */
  static async load(
    gpu: Gpu,
    source: TensorSource,
    large: LatentSpace,
    onProgress: OnProgress | undefined,
    parts: readonly VaePart[],
  ): Promise<TinyAutoencoder> {
    const sizes = tinySizes(source), { zDim, patch } = sizes, spatialScale = SCALE * patch;
    if (parts.includes("encoder")) {
      throw new TilereelError(
        `${source.path} is a tiny autoencoder, with which tilereel only decodes; use the model's own VAE to encode pictures`,
      );
    }
    if (zDim !== large.zDim || spatialScale !== large.spatialScale) {
      throw new TilereelError(
        `${source.path} decodes latents of ${zDim} channels to ${spatialScale} times their size, but the model's have ` +
          `${large.zDim} channels and ${large.spatialScale} times; use the tiny autoencoder for this model`,
      );
    }
    const load = {
      encoder: () => Promise.reject(new Error("a tiny autoencoder has no encoder here")),
      decoder: (weights: Parameters<typeof TinyDecoder.load>[0]) => TinyDecoder.load(weights, sizes),
    };
    // It takes latents as the transformer has them.
    const plain = { ...large, latentsMean: Array(zDim).fill(0), latentsStd: Array(zDim).fill(1) };
    return new TinyAutoencoder(gpu, plain, await loadParts(gpu, source, load, onProgress, parts));
  }
}
