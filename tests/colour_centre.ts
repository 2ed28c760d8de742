/**
 * Finds a coloured thing in decoded frames.
 *
 * @module
 */

/** How many pixels are red, and their mean place from 0 (left, top) to 1. */
export function redCentre(rgb: Uint8Array, width: number, height: number): { pixels: number; x: number; y: number } {
  let pixels = 0, x = 0, y = 0;
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = rgb.subarray(i * 3, i * 3 + 3) as unknown as [number, number, number];
    if (r < 110 || r < 2 * g || r < 2 * b) continue;
    pixels++;
    x += i % width;
    y += Math.floor(i / width);
  }
  return { pixels, x: x / pixels / width, y: y / pixels / height };
}
