/// <reference lib="dom" />

/** Plays all videos of the page in step: the first leads, and the others follow it. */
export class Together {
  readonly #videos = new Set<HTMLVideoElement>();
  #playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;

  /** Frames a second of the clips. */
  fps = 16;

  /** @param onTime told how far the first video is, from 0 to 1, and its frame, counted from 1, of how many */
  constructor(private readonly onTime: (share: number, frame: number, frames: number) => void) {
    const tick = () => {
      this.#tick();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  get playing(): boolean {
    return this.#playing;
  }

  /** Plays a video with the others. */
  add(video: HTMLVideoElement): void {
    Object.assign(video, { muted: true, loop: true, playsInline: true });
    this.#videos.add(video);
    if (this.#playing) play(video);
  }

  remove(video: HTMLVideoElement): void {
    this.#videos.delete(video);
  }

  setPlaying(playing: boolean): void {
    this.#playing = playing;
    for (const video of this.#videos) playing ? play(video) : video.pause();
  }

  /** Pauses all at a share of their length. */
  seek(share: number): void {
    this.setPlaying(false);
    for (const video of this.#videos) {
      if (Number.isFinite(video.duration)) video.currentTime = Math.min(share, 0.9999) * video.duration;
    }
    this.#tell(share);
  }

  /** Pauses all, and goes on by frames of the first video. */
  step(frames: number): void {
    const [first] = this.#videos;
    if (!first || !Number.isFinite(first.duration)) return;
    const count = this.#framesOf(first), at = Math.floor(first.currentTime * this.fps + 0.01);
    // In the middle of a frame, so that rounding does not matter.
    this.seek((((at + frames + count) % count) + 0.5) / count);
  }

  #framesOf({ duration }: HTMLVideoElement): number {
    return Math.max(1, Math.round(duration * this.fps));
  }

  #tell(share: number): void {
    const [first] = this.#videos, frames = first && Number.isFinite(first.duration) ? this.#framesOf(first) : 1;
    this.onTime(share, Math.min(frames, Math.floor(share * frames + 0.01) + 1), frames);
  }

  #tick(): void {
    const [first, ...others] = this.#videos;
    if (!first || !Number.isFinite(first.duration) || !this.#playing) return;
    const share = first.currentTime / first.duration;
    this.#tell(share);
    for (const video of others) {
      if (!Number.isFinite(video.duration)) continue;
      const behind = Math.abs(video.currentTime / video.duration - share) * video.duration;
      // A tenth of a second is seen; less is left alone, because seeking stutters.
      if (behind > 0.1 && behind < video.duration - 0.1) video.currentTime = share * video.duration;
    }
  }
}

function play(video: HTMLVideoElement): void {
  // A browser may forbid it, to save a battery for one.
  video.play().catch(() => {});
}
