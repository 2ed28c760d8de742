import type { Array5D } from "../pipeline.ts";
import type { Video } from "../video/video.ts";

type Rgb = readonly [red: number, green: number, blue: number];

/** The colours of an autoencoder's latents, as a linear fit: a picture in 0…1 is the bias plus latents times factors. */
export interface LatentRgb {
  /** Red, green and blue of each channel of the transformer's (normalized) latents. */
  readonly factors: readonly Rgb[];
  readonly bias: Rgb;
}

/** A fit to pictures in −1…1. */
export function fromSigned(bias: readonly number[], factors: readonly (readonly number[])[]): LatentRgb {
  const half = (values: readonly number[], more = 0) => values.map((value) => value / 2 + more) as unknown as Rgb;
  return { bias: half(bias, 0.5), factors: factors.map((of) => half(of)) };
}

/**
 * A rough picture of each latent frame, with a pixel for each latent.
 *
 * @param fps latent frames a second
 */
export function latentVideo({ data, shape }: Array5D, { factors, bias }: LatentRgb, fps: number): Video {
  const [, , frames = 0, height = 0, width = 0] = shape, pixels = frames * height * width;
  const rgb = new Uint8ClampedArray(pixels * 3), sums = new Float32Array(pixels);
  for (let colour = 0; colour < 3; colour++) {
    sums.fill(bias[colour]!);
    for (const [channel, of] of factors.entries()) {
      const factor = of[colour]!, start = channel * pixels;
      for (let pixel = 0; pixel < pixels; pixel++) sums[pixel]! += factor * data[start + pixel]!;
    }
    for (let pixel = 0; pixel < pixels; pixel++) rgb[3 * pixel + colour] = 255 * sums[pixel]!;
  }
  return { width, height, frames, fps, data: new Uint8Array(rgb.buffer) };
}
