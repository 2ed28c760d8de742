import type { Video } from "./video.ts";

/** The samples of one frame, [height, width, 3], as a view. */
export function frameOf(video: Video, index: number): Uint8Array {
  const size = video.width * video.height * 3;
  return video.data.subarray(index * size, (index + 1) * size);
}

/** Up to `count` frame numbers, evenly spaced, with the first and the last. */
export function evenlySpaced(frames: number, count: number): number[] {
  const n = Math.min(frames, count);
  return Array.from({ length: n }, (_, i) => n === 1 ? 0 : Math.round(i * (frames - 1) / (n - 1)));
}

/** The grey between frames in one picture. */
const GAP_LEVEL = 128;

/** Pictures of one size as one, from left to right in rows of up to `columns`, with `gap` grey pixels between them. */
export function joined(
  pictures: readonly Uint8Array[],
  { width, height }: Pick<Video, "width" | "height">,
  { columns, gap }: { readonly columns: number; readonly gap: number },
): Pick<Video, "width" | "height" | "data"> {
  const across = Math.min(columns, pictures.length), down = Math.ceil(pictures.length / across);
  const whole = { width: across * (width + gap) - gap, height: down * (height + gap) - gap };
  const data = new Uint8Array(whole.width * whole.height * 3).fill(GAP_LEVEL);
  for (const [i, picture] of pictures.entries()) {
    const left = (i % across) * (width + gap), top = Math.floor(i / across) * (height + gap);
    for (let y = 0; y < height; y++) {
      data.set(picture.subarray(y * width * 3, (y + 1) * width * 3), ((top + y) * whole.width + left) * 3);
    }
  }
  return { ...whole, data };
}
