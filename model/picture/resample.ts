import type { Picture } from "./picture.ts";

/** A filter: its weight at a distance in pixels of the coarser grid, and the distance from which on it is 0. */
interface Filter {
  readonly support: number;
  weight(distance: number): number;
}

const sinc = (x: number) => x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);

const FILTERS = {
  bicubic: {
    support: 2,
    weight(distance) {
      const x = Math.abs(distance), a = -0.5;
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    },
  },
  lanczos: { support: 3, weight: (x) => Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0 },
} as const satisfies Record<string, Filter>;

/** Weights are rounded to such parts of 1, and results to whole numbers, once for each axis. */
const UNIT = 2 ** 22;

/** How one pixel along an axis is made: from `weights.length` pixels, the first of which is `from`. */
interface Taps {
  readonly from: number;
  readonly weights: readonly number[];
}

/**
 * Scales a picture, to the same samples as Pillow's `resize`: diffusers and transformers prepare pictures with it.
 *
 * @param width in pixels; so too the height
 */
export function resample(picture: Picture, width: number, height: number, filter: keyof typeof FILTERS): Picture {
  const across = picture.width === width ? picture : along(picture, taps(picture.width, width, FILTERS[filter]), true);
  return picture.height === height ? across : along(across, taps(picture.height, height, FILTERS[filter]), false);
}

function taps(from: number, to: number, { support, weight }: Filter): Taps[] {
  const scale = from / to, wide = Math.max(scale, 1), reach = support * wide;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5)), end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const weights = Array.from({ length: end - first }, (_, k) => weight((first + k - centre + 0.5) / wide));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { from: first, weights: weights.map((w) => roundAway(w / sum * UNIT)) };
  });
}

/** Rounds halves away from 0. */
const roundAway = (x: number) => Math.trunc(x + (x < 0 ? -0.5 : 0.5));

/** Scales rows, or columns. */
function along({ width, height, rgb }: Picture, places: readonly Taps[], rows: boolean): Picture {
  const size = rows ? { width: places.length, height } : { width, height: places.length };
  const out = new Uint8ClampedArray(size.width * size.height * 3), step = rows ? 3 : 3 * width;
  for (const [i, { from, weights }] of places.entries()) {
    for (let other = 0; other < (rows ? height : width); other++) {
      const first = rows ? (other * width + from) * 3 : (from * width + other) * 3;
      const to = rows ? (other * size.width + i) * 3 : (i * width + other) * 3;
      for (let c = 0; c < 3; c++) {
        let sum = UNIT / 2;
        for (let k = 0, at = first + c; k < weights.length; k++, at += step) sum += weights[k]! * rgb[at]!;
        out[to + c] = Math.floor(sum / UNIT);
      }
    }
  }
  return { ...size, rgb: new Uint8Array(out.buffer) };
}
