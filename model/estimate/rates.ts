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
        narrow: { linear: 2.81e14, dense: 2.38e14, sparse: 1.70e14, decode: 1.31 },
        wide: { linear: 3.32e14, dense: 2.42e14, sparse: 1.93e14, decode: 1.31 },
      },
      int8: {
        narrow: { linear: 4.12e14, dense: 2.52e14, sparse: 1.76e14, decode: 1.29 },
        wide: { linear: 6.05e14, dense: 2.50e14, sparse: 2.02e14, decode: 1.29 },
      },
    },
    threads: {
      f16: {
        narrow: { linear: 5.17e13, dense: 3.99e13, sparse: 3.18e13, decode: 4.25 },
        wide: { linear: 5.42e13, dense: 3.93e13, sparse: 3.40e13, decode: 4.25 },
      },
      int8: {
        narrow: { linear: 9.06e13, dense: 7.13e13, sparse: 5.19e13, decode: 4.29 },
        wide: { linear: 9.66e13, dense: 7.23e13, sparse: 5.72e13, decode: 4.29 },
      },
    },
  };
// end
