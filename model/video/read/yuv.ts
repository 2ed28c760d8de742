import type { YuvColours } from "../colours.ts";

/**
 * Converts the upper left `width` × `height` pixels of a planar 4:2:0 frame, whose planes are `stride` wide and `lines`
 * high, both even. Chroma is interpolated between its samples, which lie amid four pixels each, as players do.
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
  const cbPlane = yuv.subarray(stride * lines), crPlane = cbPlane.subarray(stride * lines / 4);
  const half = { stride: stride / 2, width: width + 1 >> 1, height: height + 1 >> 1 };
  const cbLine = new Float32Array(half.width * 2), crLine = new Float32Array(half.width * 2);
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let y = 0, at = 0; y < height; y++) {
    chromaLine(cbPlane, half, y, cbLine);
    chromaLine(crPlane, half, y, crLine);
    for (let x = 0; x < width; x++) {
      const l = luma * (yuv[y * stride + x]! - black);
      const cb = cbLine[x]!, cr = crLine[x]!;
      rgb[at++] = l + redCr * cr;
      rgb[at++] = l - greenCr * cr - greenCb * cb;
      rgb[at++] = l + blueCb * cb;
    }
  }
  return new Uint8Array(rgb.buffer);
}

/** Line `y` of a plane at half size brought to full size, around zero: three parts of the nearer sample, one of the other. */
function chromaLine(
  plane: Uint8Array,
  { stride, width, height }: { stride: number; width: number; height: number },
  y: number,
  out: Float32Array,
): void {
  const near = y >> 1, far = Math.min(height - 1, Math.max(0, near + (y & 1 ? 1 : -1)));
  const at = (x: number) => 0.75 * plane[near * stride + x]! + 0.25 * plane[far * stride + x]! - 128;
  let before = at(0), here = before;
  for (let x = 0; x < width; x++) {
    const after = x + 1 < width ? at(x + 1) : here;
    out[2 * x] = 0.75 * here + 0.25 * before;
    out[2 * x + 1] = 0.75 * here + 0.25 * after;
    before = here;
    here = after;
  }
}
