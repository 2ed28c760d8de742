import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { clipPixels } from "../clip/vision/pixels.ts";
import type { ClipVisionEncoder } from "../clip/vision/encoder.ts";
import type { CodingOptions, Conditioning, VideoVae } from "../family.ts";
import { cover } from "../picture/fit.ts";
import type { Picture } from "../picture/picture.ts";
import type { ClipPictures } from "../pictures_of_clip.ts";
import type { ClipSize } from "../video_size.ts";
import type { VaeConfig } from "./vae/config.ts";

/** The pictures of a clip by their frames. */
function byFrame({ image, lastImage }: ClipPictures, frames: number): Map<number, Picture> {
  return new Map([...image ? [[0, image] as const] : [], ...lastImage ? [[frames - 1, lastImage] as const] : []]);
}

/** The latents of a clip that has pictures at some frames, as the transformer takes them. The caller's. */
async function latentsOf(
  gpu: Gpu,
  vae: VideoVae,
  pictures: ReadonlyMap<number, Picture>,
  { width, height, frames }: ClipSize,
  options: CodingOptions,
): Promise<Tensor> {
  using owned = new TensorOwner(gpu);
  const uploaded = new Map([...pictures].map(([frame, picture]) => [
    frame,
    owned.adopt(gpu.upload(planes(cover(picture, width, height)), [3, 1, height, width])),
  ]));
  const { mean, logvar } = await vae.encode({ shape: [1, 3, frames, height, width], pictures: uploaded }, options);
  owned.adopt([mean, logvar]);
  return vae.normalize(mean);
}

/** Samples [height, width, 3] of 0…255 to [3, height, width] in −1…1. */
function planes({ rgb }: Picture): Float32Array<ArrayBuffer> {
  const pixels = rgb.length / 3;
  return Float32Array.from(rgb, (_, i) => rgb[(i % pixels) * 3 + Math.floor(i / pixels)]! / 127.5 - 1);
}

/**
 * The channels that stand behind those of noisy latents: a mask of the frames that are given, each as often as a latent
 * frame has frames, and the latents of a clip that is grey but for its pictures.
 *
 * @returns [1, temporal scale + latent channels, latent frames, height, width]; the caller's
 */
export async function imageChannels(
  gpu: Gpu,
  vae: VideoVae,
  given: ClipPictures,
  clip: ClipSize,
  { temporalScale }: VaeConfig,
  options: CodingOptions,
): Promise<Tensor> {
  const pictures = byFrame(given, clip.frames);
  using owned = new TensorOwner(gpu);
  const condition = owned.adopt(await latentsOf(gpu, vae, pictures, clip, options));
  const [, channels, frames, height, width] = condition.shape as [number, number, number, number, number];
  const mask = new Float32Array(temporalScale * frames * height * width), plane = height * width;
  for (let part = 0; part < temporalScale; part++) {
    for (let latent = 0; latent < frames; latent++) {
      // The first latent frame stands for one frame, which the mask repeats.
      const frame = latent === 0 ? 0 : (latent - 1) * temporalScale + 1 + part;
      if (pictures.has(frame)) mask.fill(1, (part * frames + latent) * plane, (part * frames + latent + 1) * plane);
    }
  }
  const y = gpu.tensor([1, temporalScale + channels, frames, height, width]), rows = y.reshape(y.shape.slice(1));
  gpu.write(rows.slice(0, temporalScale), mask, 0);
  gpu.copy(condition, rows.slice(temporalScale, channels));
  return y;
}

/** The latents of the first frame: [1, channels, 1, height, width]; the caller's. */
export async function firstFrame(
  gpu: Gpu,
  vae: VideoVae,
  image: Picture,
  clip: ClipSize,
  options: CodingOptions,
): Promise<Tensor> {
  return await latentsOf(gpu, vae, new Map([[0, image]]), { ...clip, frames: 1 }, options);
}

/** The tokens of all pictures, one behind the other: [1, tokens, channels]; the caller's. */
export async function imageTokens(
  gpu: Gpu,
  encoder: ClipVisionEncoder,
  { image, lastImage }: ClipPictures,
  options: CodingOptions,
): Promise<NonNullable<Conditioning["image"]>> {
  const pictures = [image, lastImage].filter((picture) => picture !== undefined), { imageSize } = encoder.config;
  const pixels = gpu.upload(clipPixels(pictures, imageSize), [pictures.length, 3, imageSize, imageSize]);
  try {
    const tokens = await encoder.encode(pixels, options), dim = tokens.dim(-1);
    return tokens.reshape([1, tokens.size / dim, dim]);
  } finally {
    gpu.release(pixels);
  }
}
