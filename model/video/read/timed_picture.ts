/** One picture of a clip. */
export interface TimedPicture {
  /** Seconds from the beginning of the clip to the moment at which this picture gives way to the next. */
  readonly end: number;
  readonly width: number;
  readonly height: number;
  /** The samples [height, width, 3], worked out when asked for; good until the next picture is asked for. */
  rgb(): Uint8Array;
}

/** A clip's pictures in order. Files and programs behind them are closed when the loop over them ends in any way. */
export type Pictures = AsyncIterable<TimedPicture>;

/** Part of a frame's time that passes before it is looked at. */
const PHASE = 0.25;

/**
 * The moment, in seconds, of which frame `index` at `fps` frames a second shows the picture. A little after the frame
 * begins: GIFs and MP4s round their times, and a picture that is due there may come late.
 */
export function samplingTime(index: number, fps: number): number {
  return (index + PHASE) / fps;
}
