/**
 * A clip to test video writers with: soft-edged shapes in strong colours that move over a grey gradient.
 *
 * @module
 */
import type { Video } from "../model/video/video.ts";

/** Makes the clip. */
export function movingShapes(width = 128, height = 96, frames = 13, fps = 16): Video {
  const data = new Uint8Array(width * height * frames * 3);
  const shapes = [
    { colour: [230, 20, 30], x: 24, y: 30, dx: 4, dy: 0 },
    { colour: [20, 200, 40], x: 100, y: 20, dx: 0, dy: 3 },
    { colour: [30, 60, 240], x: 60, y: 70, dx: 2, dy: -1 },
  ];
  for (let f = 0, at = 0; f < frames; f++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const grey = 40 + 160 * x / width;
        const pixel = [grey, grey, grey];
        for (const shape of shapes) {
          const distance = Math.hypot(x - shape.x - shape.dx * f, y - shape.y - shape.dy * f);
          const cover = Math.min(1, Math.max(0, (18 - distance) / 4));
          for (let c = 0; c < 3; c++) pixel[c] = pixel[c]! * (1 - cover) + shape.colour[c]! * cover;
        }
        for (let c = 0; c < 3; c++) data[at++] = Math.round(pixel[c]!);
      }
    }
  }
  return { width, height, frames, fps, data };
}

/** Peak signal-to-noise ratio in dB of two arrays of 8-bit samples. */
export function psnr(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) throw new Error(`${a.length} samples against ${b.length}`);
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2;
  return 10 * Math.log10(255 ** 2 * a.length / sum);
}
