// @ts-types="./gifenc.d.ts"
import { applyPalette, GIFEncoder, quantize } from "gifenc";
import type { Video } from "./video.ts";
import { evenlySpaced, frameOf } from "./frames.ts";

const COLOURS = 256;
/** Pixels the palette is chosen from; more makes it slower, not better. */
const PALETTE_SAMPLES = 1 << 18;
/** GIF counts time in hundredths of a second, and viewers slow anything under two of them down to ten. */
const SHORTEST_DELAY = 2;

/** An animated GIF that loops for ever, with one palette for all (a palette a frame would make still parts flicker). */
export function encodeGif(video: Video): Uint8Array<ArrayBuffer> {
  const palette = quantize(paletteSamples(video), COLOURS, { format: "rgb565" });
  const gif = GIFEncoder();
  for (let i = 0; i < video.frames; i++) {
    const index = applyPalette(withAlpha(frameOf(video, i)), palette, "rgb565");
    gif.writeFrame(index, video.width, video.height, {
      // The first frame's palette is the whole file's.
      ...i === 0 && { palette, repeat: 0 },
      delay: frameDelay(i, video.fps) * 10,
    });
  }
  gif.finish();
  return gif.bytes();
}

/** Hundredths of a second frame `i` stays: rounded so that the clip as a whole keeps its length. */
function frameDelay(i: number, fps: number): number {
  return Math.max(SHORTEST_DELAY, Math.round((i + 1) * 100 / fps) - Math.round(i * 100 / fps));
}

/** RGBA pixels picked evenly from frames all over the clip. */
function paletteSamples(video: Video): Uint8Array {
  const chosen = evenlySpaced(video.frames, 16);
  const pixels = video.width * video.height;
  const stride = Math.max(1, Math.ceil(pixels * chosen.length / PALETTE_SAMPLES));
  const each = Math.ceil(pixels / stride);
  const samples = new Uint8Array(chosen.length * each * 4);
  let at = 0;
  for (const index of chosen) {
    const frame = frameOf(video, index);
    for (let p = 0; p < pixels; p += stride, at += 4) {
      samples.set(frame.subarray(p * 3, p * 3 + 3), at);
      samples[at + 3] = 255;
    }
  }
  return samples;
}

function withAlpha(rgb: Uint8Array): Uint8Array {
  const rgba = new Uint8Array(rgb.length / 3 * 4);
  for (let p = 0, q = 0; p < rgb.length; p += 3, q += 4) {
    for (let c = 0; c < 3; c++) rgba[q + c] = rgb[p + c]!;
    rgba[q + 3] = 255;
  }
  return rgba;
}
