import type { Picture } from "./picture.ts";
import { resample } from "./resample.ts";

/** Cuts a window out of a picture. */
export function crop({ width: from, rgb }: Picture, left: number, top: number, width: number, height: number): Picture {
  const out = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * from + left) * 3;
    out.set(rgb.subarray(start, start + width * 3), y * width * 3);
  }
  return { width, height, rgb: out };
}

/**
 * Scales a picture to cover a clip's size and crops it round its centre, as diffusers' image processor does that is told
 * to crop. A picture of the clip's proportions is only scaled, as by diffusers' pipelines.
 */
export function cover(picture: Picture, width: number, height: number): Picture {
  const { width: own, height: tall } = picture, isTaller = width / height > own / tall;
  const scaledWidth = isTaller ? width : Math.floor(own * height / tall);
  const scaledHeight = isTaller ? Math.floor(tall * width / own) : height;
  const scaled = resample(picture, Math.max(width, scaledWidth), Math.max(height, scaledHeight), "lanczos");
  const before = (scaled: number, length: number) => Math.floor(scaled / 2) - Math.floor(length / 2);
  return crop(scaled, before(scaled.width, width), before(scaled.height, height), width, height);
}

/** The share of a picture that {@link cover} cuts off. */
export function croppedShare({ width: own, height: tall }: Picture, width: number, height: number): number {
  const [a, b] = [own * height, tall * width];
  return 1 - Math.min(a, b) / Math.max(a, b);
}

/**
 * The size of a clip with a picture's proportions and about so many pixels.
 *
 * @param side width and height are multiples of this
 */
export function sizeLike(
  picture: Pick<Picture, "width" | "height">,
  pixels: number,
  side: number,
): { readonly width: number; readonly height: number } {
  const aspect = picture.height / picture.width;
  const fitted = (length: number) => Math.max(1, Math.floor(Math.round(length) / side)) * side;
  return { width: fitted(Math.sqrt(pixels / aspect)), height: fitted(Math.sqrt(pixels * aspect)) };
}
