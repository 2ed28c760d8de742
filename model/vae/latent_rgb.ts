import type { Array5D } from "../pipeline.ts";
import type { Video } from "../video/video.ts";

/** The colours of an autoencoder's latents, as a linear fit: a picture in 0…1 is the bias plus latents times factors. */
export interface LatentRgb {
  /** Red, green and blue of each channel of the transformer's (normalized) latents. */
  readonly factors: readonly (readonly [red: number, green: number, blue: number])[];
  readonly bias: readonly [red: number, green: number, blue: number];
}

/**
 * A rough picture of each latent frame, with a pixel for each latent.
 *
 * @param fps latent frames a second
 */
export function latentVideo({ data, shape }: Array5D, { factors, bias }: LatentRgb, fps: number): Video {
  const [, , frames = 0, height = 0, width = 0] = shape, pixels = frames * height * width;
  const rgb = new Uint8ClampedArray(pixels * 3);
  for (let i = 0; i < rgb.length; i++) {
    const pixel = Math.floor(i / 3), colour = i % 3;
    rgb[i] = 255 *
      factors.reduce((sum, of, channel) => sum + of[colour]! * data[channel * pixels + pixel]!, bias[colour]!);
  }
  return { width, height, frames, fps, data: new Uint8Array(rgb.buffer) };
}
