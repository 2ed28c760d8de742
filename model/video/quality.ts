import { TilereelError } from "../../gpu/common/errors.ts";
import type { Video } from "./video.ts";

/** The largest value of an 8-bit sample. */
const PEAK = 255;

/** The radius of the window in samples, and its standard deviation. */
const RADIUS = 5;
const SIGMA = 1.5;
/** These constants keep the quotients stable where a window is dark or flat. */
const C1 = (0.01 * PEAK) ** 2;
const C2 = (0.03 * PEAK) ** 2;
/** ITU-R BT.601's weights of red, green and blue in luma. */
const LUMA = [0.299, 0.587, 0.114] as const;

/** The mean squared difference of 8-bit samples. It is infinite where the lengths differ. */
export function meanSquaredError(out: Uint8Array, ref: Uint8Array): number {
  if (out.length !== ref.length) return Infinity;
  let squares = 0;
  for (let i = 0; i < ref.length; i++) squares += (out[i]! - ref[i]!) ** 2;
  return squares / ref.length;
}

/** Peak signal-to-noise ratio, in dB, at a mean squared error of 8-bit samples; infinite where there is no error. */
export function psnrOfError(meanSquaredError: number): number {
  return 10 * Math.log10(PEAK ** 2 / meanSquaredError);
}

/**
 * Peak signal-to-noise ratio of 8-bit samples, in dB, from the mean squared error over every channel of every frame. It
 * is infinite if they are equal, and -Infinity if the lengths differ.
 */
export function psnr(out: Uint8Array, ref: Uint8Array): number {
  return psnrOfError(meanSquaredError(out, ref));
}

/** The change from frame to frame over that of another clip of the same size; 1 where that does not change. */
export function flicker(out: Video, ref: Video): number {
  const change = changeOf(ref);
  return change === 0 ? 1 : changeOf(out) / change;
}

/** The sum of absolute changes of samples from one frame to the next. */
function changeOf({ data, frames }: Video): number {
  const frame = data.length / frames;
  let sum = 0;
  for (let at = frame; at < data.length; at++) sum += Math.abs(data[at]! - data[at - frame]!);
  return sum;
}

/**
 * Structural similarity of two clips of the same size (Wang, Bovik, Sheikh and Simoncelli 2004, equation 13), at most
 * 1. On luma (0.299 R + 0.587 G + 0.114 B, not rounded, from 0 to 255), in a Gaussian window of 11×11 samples with σ =
 * 1.5 that sums to 1, K₁ = 0.01, K₂ = 0.03: the mean over the windows that lie whole inside the frame, then over the
 * frames.
 *
 * @throws {TilereelError} if their sizes differ, or a frame is no larger than 10 pixels along a side
 */
export function ssim(out: Video, ref: Video): number {
  const { width, height, frames } = ref;
  if (out.width !== width || out.height !== height || out.frames !== frames) {
    throw new TilereelError(
      `clips of ${out.width}x${out.height}, ${out.frames} frames, and of ${width}x${height}, ${frames} frames, cannot be ` +
        `compared; clips of one size were expected`,
    );
  }
  if (width <= 2 * RADIUS || height <= 2 * RADIUS) {
    throw new TilereelError(
      `no SSIM window fits into ${width}x${height}; more than 10 pixels along each side are needed`,
    );
  }
  const comparison = new FrameComparison(width, height);
  let sum = 0;
  for (let frame = 0; frame < frames; frame++) sum += comparison.ssim(out.data, ref.data, frame * width * height * 3);
  return sum / frames;
}

/**
 * Compares frames of one size, in memory that is reused for each. The index has the variances only as their sum in one
 * denominator, so four means over windows are enough: of x, y, x² + y² and xy.
 */
class FrameComparison {
  readonly #weights = gaussian();
  /** The four products of two frames: x, y, x² + y², xy. */
  readonly #moments: readonly Float64Array[];
  /** The same, filtered along rows: [height, width - 2 RADIUS]. */
  readonly #rows: readonly Float64Array[];
  /** One row of them, also filtered along columns. */
  readonly #means: readonly Float64Array[];

  constructor(private readonly width: number, private readonly height: number) {
    const four = (length: number) => Array.from({ length: 4 }, () => new Float64Array(length));
    this.#moments = four(width * height);
    this.#rows = four((width - 2 * RADIUS) * height);
    this.#means = four(width - 2 * RADIUS);
  }

  /** The mean index of the frames that start at sample `at` of two clips. */
  ssim(a: Uint8Array, b: Uint8Array, at: number): number {
    this.#takeMoments(a, b, at);
    const inner = this.width - 2 * RADIUS;
    for (let m = 0; m < 4; m++) {
      const from = this.#moments[m]!, to = this.#rows[m]!;
      for (let y = 0; y < this.height; y++) {
        this.#filter(from, y * this.width, 1, to.subarray(y * inner, (y + 1) * inner));
      }
    }
    let sum = 0;
    for (let y = 0; y < this.height - 2 * RADIUS; y++) {
      for (let m = 0; m < 4; m++) this.#filter(this.#rows[m]!, y * inner, inner, this.#means[m]!);
      sum += this.#sumOfIndices();
    }
    return sum / (inner * (this.height - 2 * RADIUS));
  }

  #takeMoments(a: Uint8Array, b: Uint8Array, at: number): void {
    const [xs, ys, squares, products] = this.#moments as [Float64Array, Float64Array, Float64Array, Float64Array];
    for (let pixel = 0, i = at; pixel < xs.length; pixel++, i += 3) {
      const x = LUMA[0] * a[i]! + LUMA[1] * a[i + 1]! + LUMA[2] * a[i + 2]!;
      const y = LUMA[0] * b[i]! + LUMA[1] * b[i + 1]! + LUMA[2] * b[i + 2]!;
      xs[pixel] = x;
      ys[pixel] = y;
      squares[pixel] = x * x + y * y;
      products[pixel] = x * y;
    }
  }

  /** Fills `to` with means over a window's 11 samples, `step` apart, the first of which is sample `at` of `from`. */
  #filter(from: Float64Array, at: number, step: number, to: Float64Array): void {
    const [w0, w1, w2, w3, w4, w5] = this.#weights;
    for (let x = 0, i = at; x < to.length; x++, i++) {
      to[x] = w5 * from[i + 5 * step]! + w4 * (from[i + 4 * step]! + from[i + 6 * step]!) +
        w3 * (from[i + 3 * step]! + from[i + 7 * step]!) + w2 * (from[i + 2 * step]! + from[i + 8 * step]!) +
        w1 * (from[i + step]! + from[i + 9 * step]!) + w0 * (from[i]! + from[i + 10 * step]!);
    }
  }

  #sumOfIndices(): number {
    const [xs, ys, squares, products] = this.#means as [Float64Array, Float64Array, Float64Array, Float64Array];
    let sum = 0;
    for (let i = 0; i < xs.length; i++) {
      const product = xs[i]! * ys[i]!, norm = xs[i]! ** 2 + ys[i]! ** 2;
      sum += (2 * product + C1) * (2 * (products[i]! - product) + C2) / ((norm + C1) * (squares[i]! - norm + C2));
    }
    return sum;
  }
}

/** The window's weights along one axis, from its edge to its centre. */
function gaussian(): readonly [number, number, number, number, number, number] {
  const weight = (distance: number) => Math.exp(-(distance ** 2) / (2 * SIGMA ** 2));
  let sum = 0;
  for (let distance = -RADIUS; distance <= RADIUS; distance++) sum += weight(distance);
  return [weight(5) / sum, weight(4) / sum, weight(3) / sum, weight(2) / sum, weight(1) / sum, weight(0) / sum];
}
