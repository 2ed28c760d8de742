/**
 * Several clips side by side in one.
 *
 * @module
 */
import { frameOf } from "../../model/video/frames.ts";
import type { Video } from "../../model/video/video.ts";

/** Pixels between clips (even, as MP4 wants sizes to be), and their grey. */
const GAP = 4;
const GAP_LEVEL = 128;
/** Many decoders accept no wider pictures, so clips that do not fit go into another row. */
const WIDEST = 4096;

/** Clips of the same size and length as one clip: from left to right, in as many rows as it takes. */
export function sideBySide(videos: readonly Video[]): Video {
  const { width, height, frames, fps } = videos[0]!;
  const columns = Math.max(1, Math.min(videos.length, Math.floor((WIDEST + GAP) / (width + GAP))));
  const rows = Math.ceil(videos.length / columns);
  const whole = { width: columns * (width + GAP) - GAP, height: rows * (height + GAP) - GAP };
  const data = new Uint8Array(frames * whole.width * whole.height * 3).fill(GAP_LEVEL);
  const all = { ...whole, frames, fps, data };
  for (const [i, video] of videos.entries()) {
    const left = (i % columns) * (width + GAP), top = Math.floor(i / columns) * (height + GAP);
    for (let f = 0; f < frames; f++) {
      const from = frameOf(video, f), to = frameOf(all, f);
      for (let y = 0; y < height; y++) {
        to.set(from.subarray(y * width * 3, (y + 1) * width * 3), ((top + y) * whole.width + left) * 3);
      }
    }
  }
  return all;
}
