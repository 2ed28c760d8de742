/** A frame rate in whole numbers, as files have it: each frame is shown for `frameTicks` / `timescale` seconds. */
export interface FrameRate {
  readonly timescale: number;
  readonly frameTicks: number;
}

/** How far a rate such as 23.98 may be from 24000/1001, which it stands for. */
const NTSC_ROUNDING = 0.005;
/** The largest number that the number of frames in which a whole number of seconds passes may be divided by. */
const LARGEST_DENOMINATOR = 1001;
/** Players that count milliseconds want more than a tick or two a frame. */
const FINER = 1000;

/** Frames a second as a fraction: 24 is 24000/1000; 23.976 and 23.98 are 24000/1001; 12.5 is 25000/2000. */
export function frameRate(fps: number): FrameRate {
  const nominal = Math.round(fps * 1.001);
  if (!Number.isInteger(fps) && nominal > 0 && Math.abs(fps - nominal / 1.001) < NTSC_ROUNDING) {
    return { timescale: nominal * 1000, frameTicks: 1001 };
  }
  const [numerator, denominator] = fraction(fps);
  return { timescale: numerator * FINER, frameTicks: denominator * FINER };
}

/** The best fraction with a small denominator, by the continued fraction of `value`. */
function fraction(value: number): [numerator: number, denominator: number] {
  let [n0, d0, n1, d1] = [1, 0, Math.floor(value), 1];
  for (let rest = value - n1; rest > 1e-9;) {
    const term = Math.floor(1 / rest);
    const [n, d] = [term * n1 + n0, term * d1 + d0];
    if (d > LARGEST_DENOMINATOR) break;
    rest = 1 / rest - term;
    [n0, d0, n1, d1] = [n1, d1, n, d];
    if (Math.abs(n1 / d1 - value) < 1e-9 * value) break;
  }
  return n1 > 0 ? [n1, d1] : [1, Math.min(Math.round(1 / value), LARGEST_DENOMINATOR)];
}
