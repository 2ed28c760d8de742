import type { Video } from "../../model/video/video.ts";
import { frameOf } from "../../model/video/frames.ts";
import { encodePng } from "../../model/video/png.ts";

/** Posters are at most this wide: a page holds many. */
const WIDEST = 320;

/** A clip's first frame as a PNG, to show until the clip plays. Wide frames are reduced by means over squares. */
export function encodePoster(video: Video): Uint8Array<ArrayBuffer> {
  const scale = Math.ceil(video.width / WIDEST);
  const width = Math.floor(video.width / scale), height = Math.floor(video.height / scale);
  const frame = frameOf(video, 0);
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) {
    const channel = i % 3, x = Math.floor(i / 3) % width, y = Math.floor(i / 3 / width);
    let sum = 0;
    for (let dy = 0; dy < scale; dy++) {
      for (let dx = 0; dx < scale; dx++) {
        sum += frame[((y * scale + dy) * video.width + x * scale + dx) * 3 + channel]!;
      }
    }
    data[i] = Math.round(sum / scale ** 2);
  }
  return encodePng(data, width, height);
}
