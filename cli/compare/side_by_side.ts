import { frameOf, joined } from "../../model/video/frames.ts";
import type { Video } from "../../model/video/video.ts";

/** Pixels between clips: even, as MP4 wants sizes to be. */
const GAP = 4;
/** Many decoders accept no wider pictures, so clips that do not fit go into another row. */
const WIDEST = 4096;

/** Clips of the same size and length as one clip: side by side from left to right, in as many rows as it takes. */
export function sideBySide(videos: readonly Video[]): Video {
  const { width, frames, fps } = videos[0]!;
  const columns = Math.max(1, Math.floor((WIDEST + GAP) / (width + GAP)));
  const picture = (i: number) => joined(videos.map((video) => frameOf(video, i)), videos[0]!, { columns, gap: GAP });
  const { width: across, height, data: { length } } = picture(0);
  const data = new Uint8Array(frames * length);
  for (let i = 0; i < frames; i++) data.set(picture(i).data, i * length);
  return { width: across, height, frames, fps, data };
}
