/**
 * PNG pictures: one, or a sheet of a clip's frames.
 *
 * @module
 */
import { encode } from "fast-png";
import type { Video } from "./video.ts";
import { evenlySpaced, frameOf } from "./frames.ts";

/** Frames on a sheet, and in a row of it. */
const SHEET_FRAMES = 8;
const SHEET_COLUMNS = 4;
/** Pixels between the frames of a sheet, and their grey. */
const GAP = 2;
const GAP_LEVEL = 128;

/** A PNG of RGB samples [height, width, 3]. */
export function encodePng(data: Uint8Array, width: number, height: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(encode({ data, width, height, channels: 3, depth: 8 }));
}

/** A PNG of up to eight evenly spaced frames, four in a row, the first and the last among them. */
export function encodeContactSheet(video: Video): Uint8Array<ArrayBuffer> {
  const chosen = evenlySpaced(video.frames, SHEET_FRAMES);
  const columns = Math.min(SHEET_COLUMNS, chosen.length);
  const rows = Math.ceil(chosen.length / columns);
  const width = columns * (video.width + GAP) - GAP;
  const height = rows * (video.height + GAP) - GAP;
  const sheet = new Uint8Array(width * height * 3).fill(GAP_LEVEL);
  for (const [i, index] of chosen.entries()) {
    const frame = frameOf(video, index);
    const left = (i % columns) * (video.width + GAP);
    const top = Math.floor(i / columns) * (video.height + GAP);
    for (let y = 0; y < video.height; y++) {
      const row = frame.subarray(y * video.width * 3, (y + 1) * video.width * 3);
      sheet.set(row, ((top + y) * width + left) * 3);
    }
  }
  return encodePng(sheet, width, height);
}
