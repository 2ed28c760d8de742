/** A decoded clip: RGB frames, 8 bits a channel. */
export interface Video {
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  /** Frames a second. */
  readonly fps: number;
  /** Samples in the order [frames, height, width, 3]. */
  readonly data: Uint8Array;
}
