/**
 * Colour conversion for video that is read: planar Y′CbCr with chroma at half size (4:2:0) to RGB.
 *
 * @module
 */

import type { YuvColours } from "../colours.ts";

/**
 * The upper left `width` × `height` pixels of a 4:2:0 frame whose planes are `stride` wide and `lines` high, both even.
 *
 * @returns [height, width, 3]
 */
export function yuv420ToRgb(
  yuv: Uint8Array,
  { stride, lines, width, height }: { stride: number; lines: number; width: number; height: number },
  { kr, kb, fullRange }: YuvColours,
): Uint8Array {
  const kg = 1 - kr - kb;
  const [black, luma, chroma] = fullRange ? [0, 1, 1] : [16, 255 / 219, 255 / 224];
  const redCr = 2 * (1 - kr) * chroma, blueCb = 2 * (1 - kb) * chroma;
  const greenCr = redCr * kr / kg, greenCb = blueCb * kb / kg;
  const cbPlane = stride * lines, crPlane = cbPlane + cbPlane / 4;
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const corner = (y >> 1) * (stride >> 1) + (x >> 1);
      const l = luma * (yuv[y * stride + x]! - black);
      const cb = yuv[cbPlane + corner]! - 128, cr = yuv[crPlane + corner]! - 128;
      rgb[at++] = l + redCr * cr;
      rgb[at++] = l - greenCr * cr - greenCb * cb;
      rgb[at++] = l + blueCb * cb;
    }
  }
  return new Uint8Array(rgb.buffer);
}
