/** What was measured on the GPU that estimates start from, with one source of devices at one precision. */
export interface Rates {
  /** FLOP/s of a step without self-attention, by the products that it consists of. */
  readonly linear: number;
  /** FLOP/s of full self-attention. */
  readonly dense: number;
  /** FLOP/s of what Veda keeps at 0.1, with its selection. */
  readonly sparse: number;
  /** Seconds of decoding 81 frames of 832×480. */
  readonly decode: number;
}

/** Rates by the width of the tokens: that of Wan 1.3B, whose products are less efficient, or that of Wan 14B. */
export type RatesByWidth = Readonly<Record<"narrow" | "wide", Rates>>;

/** Rates by the path to the GPU and the precision. */
export type AllRates = Readonly<Record<"matrix" | "threads", Readonly<Record<"f16" | "int8", RatesByWidth>>>>;

/**
 * Rates by the path to the GPU: by its matrix units, as Dawn reaches them, or by its threads, as on native Deno.
 * `deno task figures` writes them from docs/figures.json.
 */
export const RATES: AllRates =
  // figures: rates
  {
    matrix: {
      f16: {
        narrow: { linear: 2.31e14, dense: 1.81e14, sparse: 1.54e14, decode: 1.29 },
        wide: { linear: 2.92e14, dense: 1.84e14, sparse: 2.08e14, decode: 1.29 },
      },
      int8: {
        narrow: { linear: 3.22e14, dense: 1.93e14, sparse: 1.60e14, decode: 1.28 },
        wide: { linear: 5.05e14, dense: 1.94e14, sparse: 1.99e14, decode: 1.28 },
      },
    },
    threads: {
      f16: {
        narrow: { linear: 4.93e13, dense: 4.01e13, sparse: 3.68e13, decode: 4.25 },
        wide: { linear: 4.93e13, dense: 4.01e13, sparse: 3.68e13, decode: 4.25 },
      },
      int8: {
        narrow: { linear: 8.55e13, dense: 7.15e13, sparse: 5.79e13, decode: 4.28 },
        wide: { linear: 8.55e13, dense: 7.15e13, sparse: 5.79e13, decode: 4.28 },
      },
    },
  };
// end
