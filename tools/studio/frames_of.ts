/// <reference lib="dom" />
import { element } from "../web/elements.ts";

/**
 * Frames of a clip as pictures.
 *
 * @param source the clip's address
 * @param frames their numbers, from 0
 * @throws if the browser cannot decode the clip
 */
export async function framesAt(source: string, frames: readonly number[], fps: number): Promise<ImageBitmap[]> {
  const video = element("video", { src: source, muted: true, preload: "auto" });
  await happens(video, "loadeddata");
  const pictures: ImageBitmap[] = [];
  for (const frame of frames) {
    // In the middle of a frame, so that rounding does not matter.
    video.currentTime = Math.min(video.duration, (frame + 0.5) / fps);
    await happens(video, "seeked");
    pictures.push(await createImageBitmap(video));
  }
  video.removeAttribute("src");
  video.load();
  return pictures;
}

async function happens(video: HTMLVideoElement, event: "loadeddata" | "seeked"): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  video.addEventListener(event, () => resolve(), { once: true });
  video.addEventListener("error", () => reject(new Error("this browser cannot show the clip")), { once: true });
  await promise;
}
