import { encode } from "fast-png";
import type { Video } from "./video.ts";
import { evenlySpaced, frameOf, joined } from "./frames.ts";

/** Frames on a sheet, and in a row of it. */
const SHEET_FRAMES = 8;
const SHEET_COLUMNS = 4;
/** Pixels between the frames of a sheet. */
const GAP = 2;

/** A PNG of RGB samples [height, width, 3]. */
export function encodePng(data: Uint8Array, width: number, height: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(encode({ data, width, height, channels: 3, depth: 8 }));
}

/** A PNG of up to eight evenly spaced frames, four in a row, the first and the last among them. */
export function encodeContactSheet(video: Video): Uint8Array<ArrayBuffer> {
  const frames = evenlySpaced(video.frames, SHEET_FRAMES).map((i) => frameOf(video, i));
  const { data, width, height } = joined(frames, video, { columns: SHEET_COLUMNS, gap: GAP });
  return encodePng(data, width, height);
}
