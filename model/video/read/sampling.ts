/**
 * Which of a clip's pictures become frames at another rate.
 *
 * @module
 */

/** Part of a frame's time that passes before it is looked at. */
const PHASE = 0.25;

/**
 * The moment, in seconds, of which frame `index` at `fps` frames a second shows the picture. A little after the frame
 * begins: GIFs and MP4s round their times, and a picture that is due there may come late.
 */
export function samplingTime(index: number, fps: number): number {
  return (index + PHASE) / fps;
}
