import type { YuvColours } from "./colours.ts";

/** Bytes of one 4:2:0 frame. */
export function yuv420Size(width: number, height: number): number {
  return width * height * 3 / 2;
}

/**
 * How much of what interpolation smooths away is added to chroma before. It brings frames 3 dB closer to the original
 * in players that interpolate linearly, as browsers do, and 0.3 dB in those that do so by cubic curves; more would gain
 * the first little, and cost the second.
 */
const SHARPENING = 1.3;

/**
 * Converts RGB samples [height, width, 3] into the planes Y′, Cb, Cr in `out`, in limited range. Width and height must
 * be even. Chroma is the mean of each 2×2 block, sharpened for players' interpolation.
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
  const halfWidth = width / 2, pixels = width * height;
  const cb = new Float32Array(pixels / 4), cr = new Float32Array(pixels / 4);
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
      const chroma = (y >> 1) * halfWidth + (x >> 1);
      cb[chroma] = cbScale * (blue - mean) / 4;
      cr[chroma] = crScale * (red - mean) / 4;
    }
  }
  sharpen(cb, halfWidth, out.subarray(pixels, pixels * 5 / 4));
  sharpen(cr, halfWidth, out.subarray(pixels * 5 / 4, pixels * 3 / 2));
}

/** Sharpens a plane around zero: adds its difference from its interpolated copy, and rounds. */
function sharpen(plane: Float32Array, width: number, out: Uint8Array): void {
  const height = plane.length / width;
  /** Interpolating a line to twice its length and taking means of two leaves 1/8, 3/4, 1/8 of three samples. */
  const smooth = (before: number, here: number, after: number) => 0.125 * before + 0.75 * here + 0.125 * after;
  for (let y = 0; y < height; y++) {
    const row = y * width, above = Math.max(0, y - 1) * width, below = Math.min(height - 1, y + 1) * width;
    const down = (x: number) => smooth(plane[above + x]!, plane[row + x]!, plane[below + x]!);
    let before = down(0), here = before;
    for (let x = 0; x < width; x++) {
      const after = x + 1 < width ? down(x + 1) : here;
      const sample = plane[row + x]!;
      const value = 128.5 + sample + SHARPENING * (sample - smooth(before, here, after));
      out[row + x] = Math.min(240, Math.max(16, value));
      before = here;
      here = after;
    }
  }
}
