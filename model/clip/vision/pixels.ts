import { crop } from "../../picture/fit.ts";
import type { Picture } from "../../picture/picture.ts";
import { resample } from "../../picture/resample.ts";

/** Of red, green and blue. */
const MEAN = [0.48145466, 0.4578275, 0.40821073], STD = [0.26862954, 0.26130258, 0.27577711];

/**
 * What CLIP's image encoder sees of pictures: the shorter edge is scaled to its size, the longer one cropped, and samples
 * are normalized, as by transformers' CLIPImageProcessor.
 *
 * @param size pixels along an edge
 * @returns [pictures, 3, size, size]
 */
export function clipPixels(pictures: readonly Picture[], size: number): Float32Array<ArrayBuffer> {
  const pixels = new Float32Array(pictures.length * 3 * size ** 2);
  let at = 0;
  for (const picture of pictures) {
    const { width, height } = picture, longer = Math.trunc(size * Math.max(width, height) / Math.min(width, height));
    const scaled = width <= height
      ? resample(picture, size, longer, "bicubic")
      : resample(picture, longer, size, "bicubic");
    const before = (length: number) => Math.floor((length - size) / 2);
    const { rgb } = crop(scaled, before(scaled.width), before(scaled.height), size, size);
    for (let c = 0; c < 3; c++) {
      for (let i = c; i < rgb.length; i += 3) pixels[at++] = (rgb[i]! / 255 - MEAN[c]!) / STD[c]!;
    }
  }
  return pixels;
}
