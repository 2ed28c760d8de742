import { checkSettings, PAPER_SETTINGS, type VortaSettings } from "../../../model/vorta/settings.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import { type AboutValue, inGroup, notation, number, ofOption, type Option, type OptionValues } from "../options.ts";

/** The table of VORTA's options. */
export const vortaOptions = inGroup("Attention", {
  tile: sizes({
    value: "TxHxW",
    help: "Size of a tile of sliding-tile attention in tokens, along frames, rows and columns. A token is one " +
      "latent frame of 16x16 pixels.",
    elsewhere: ["tile-size", "sliding-attn-tile-size"],
    default: `the router's, or ${sizesText(PAPER_SETTINGS.tile)}, or less on small clips; 6x9x8 at 81 frames`,
  }),
  window: sizes({
    value: "TxHxW",
    help: "Number of tiles that a query attends to, including its own, along frames, rows and columns.",
    elsewhere: ["window-size", "sliding-attn-window-size"],
    default: `the router's, or ${sizesText(PAPER_SETTINGS.window)}`,
  }),
  bucket: sizes({
    value: "TxHxW",
    help: "Size of a bucket of core-set attention in tokens.",
    elsewhere: ["bucket-size", "lowres-window-size"],
    default: `the router's, or ${sizesText(PAPER_SETTINGS.bucket)}, or 2x2x2 if that divides the rows evenly`,
  }),
  rate: number({
    help: "Share of the tokens of a bucket that core-set attention drops.",
    elsewhere: ["reduction-rate", "lowres-reduction-rate"],
    default: `the router's, or ${PAPER_SETTINGS.rate}`,
    min: 0,
    max: 1,
  }),
});

/**
 * The settings that the options describe, over other ones.
 *
 * @throws {TilereelError} if the rate leaves nothing of a bucket
 */
export function vortaSettings(values: OptionValues<typeof vortaOptions>, otherwise: VortaSettings): VortaSettings {
  const settings = {
    tile: values.tile ?? otherwise.tile,
    window: values.window ?? otherwise.window,
    bucket: values.bucket ?? otherwise.bucket,
    rate: values.rate ?? otherwise.rate,
  };
  try {
    checkSettings(settings, "--rate");
  } catch (error) {
    throw ofOption(values.rate === undefined ? values.bucket && "bucket" : "rate", error);
  }
  return settings;
}

/** The settings by the names of their options, as they are written there. */
export function sizesRecord({ tile, window, bucket, rate }: VortaSettings): Readonly<Record<string, unknown>> {
  return { tile: sizesText(tile), window: sizesText(window), bucket: sizesText(bucket), rate };
}

/** `5x9x8` */
export function sizesText(sizes: Grid): string {
  return sizes.join("x");
}

/** Three whole numbers of at least 1. */
export function sizes(about: AboutValue): Option<Grid> {
  return notation(about, "frames, rows and columns as in 5x9x8, each at least 1", (text) => {
    const [, ...sizes] = /^(\d{1,6})[x×*](\d{1,6})[x×*](\d{1,6})$/i.exec(text)?.map(Number) ?? [];
    return sizes.length === 0 || sizes.includes(0) ? undefined : sizes as unknown as Grid;
  });
}
