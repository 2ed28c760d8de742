/// <reference lib="dom" />
import type { Video } from "../../model/mod.ts";

/** The longest side of a small clip is drawn with at least as many pixels, so that it can be seen. */
const LEAST_SIDE = 256;

/** Plays all clips of the page in step: each shows the same share of its frames. */
export class Player {
  readonly #shown = new Map<HTMLCanvasElement, readonly ImageData[]>();
  #playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  #frame = 0;
  #last = 0;

  /** @param onFrame told the frame that is shown, and the number of frames of the longest clip */
  constructor(private readonly onFrame: (frame: number, frames: number) => void) {
    requestAnimationFrame((now) => this.#tick(now));
  }

  get playing(): boolean {
    return this.#playing;
  }

  set playing(playing: boolean) {
    this.#playing = playing;
  }

  get frames(): number {
    return Math.max(0, ...[...this.#shown.values()].map(({ length }) => length));
  }

  /** Makes a canvas play a clip. */
  show(canvas: HTMLCanvasElement, video: Video): void {
    this.#shown.set(canvas, imagesOf(video));
    [canvas.width, canvas.height] = [video.width, video.height];
    const scale = Math.max(1, LEAST_SIDE / Math.max(video.width, video.height));
    canvas.style.width = `${video.width * scale}px`;
    this.#fps = Math.max(this.#fps, video.fps);
    this.seek(this.#frame);
  }

  #fps = 1;

  remove(canvas: HTMLCanvasElement): void {
    this.#shown.delete(canvas);
  }

  /** Shows a frame of every clip. */
  seek(frame: number): void {
    const { frames } = this;
    if (frames === 0) return;
    this.#frame = (frame + frames) % frames;
    for (const [canvas, images] of this.#shown) {
      const image = images[Math.min(images.length - 1, this.#frame)]!;
      canvas.getContext("2d")!.putImageData(image, 0, 0);
    }
    this.onFrame(this.#frame, frames);
  }

  #tick(now: number): void {
    if (this.#playing && now - this.#last >= 1000 / this.#fps) {
      this.#last = now;
      this.seek(this.#frame + 1);
    }
    requestAnimationFrame((now) => this.#tick(now));
  }
}

/** The frames of a clip as a canvas takes them. */
export function imagesOf({ width, height, frames, data }: Video): ImageData[] {
  return Array.from({ length: frames }, (_, frame) => {
    const image = new ImageData(width, height), pixels = width * height;
    for (let i = 0; i < pixels; i++) {
      image.data.set(data.subarray((frame * pixels + i) * 3, (frame * pixels + i) * 3 + 3), i * 4);
      image.data[i * 4 + 3] = 255;
    }
    return image;
  });
}
