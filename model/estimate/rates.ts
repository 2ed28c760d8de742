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
        narrow: { linear: 2.80e14, dense: 2.41e14, sparse: 1.71e14, decode: 1.32 },
        wide: { linear: 3.26e14, dense: 2.43e14, sparse: 2.00e14, decode: 1.32 },
      },
      int8: {
        narrow: { linear: 4.15e14, dense: 2.48e14, sparse: 1.71e14, decode: 1.30 },
        wide: { linear: 6.08e14, dense: 2.45e14, sparse: 2.00e14, decode: 1.30 },
      },
    },
    threads: {
      f16: {
        narrow: { linear: 5.02e13, dense: 3.98e13, sparse: 3.21e13, decode: 4.30 },
        wide: { linear: 5.33e13, dense: 3.91e13, sparse: 3.45e13, decode: 4.30 },
      },
      int8: {
        narrow: { linear: 8.62e13, dense: 7.14e13, sparse: 5.12e13, decode: 4.26 },
        wide: { linear: 9.41e13, dense: 7.22e13, sparse: 5.57e13, decode: 4.26 },
      },
    },
  };
// end
