/**
 * The sizes that VORTA's two sparse kinds of attention are cut by. A router is trained for one set of them.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";
import { Config } from "../checkpoint/json.ts";
import type { Grid } from "../wan/grid.ts";

/** Sizes along frames, rows and columns. */
export interface VortaSettings {
  /** Tokens of a tile of sliding-tile attention. */
  readonly tile: Grid;
  /** Tiles that a query tile sees, its own among them. */
  readonly window: Grid;
  /** Tokens of a bucket of core-set attention. */
  readonly bucket: Grid;
  /** The part of a bucket's tokens that core-set attention drops. */
  readonly rate: number;
}

/** The paper's, for 77 frames at 720p: 20×45×80 tokens. */
export const PAPER_SETTINGS: VortaSettings = { tile: [5, 9, 8], window: [3, 3, 3], bucket: [2, 3, 2], rate: 0.5 };

/** Tiles along an axis, at least: of fewer, windows of three leave little or nothing out. */
const LEAST_TILES = 4;

/**
 * Sizes for a grid that nothing says more about: the paper's, with smaller tiles where there would be fewer than four
 * along an axis; tiles that leave no rest of less than half a tile, where one more or less does it; and buckets that fit
 * the grid's rows.
 */
export function defaultSettings(grid: Grid): VortaSettings {
  const tile = grid.map((length, axis) => tileLength(length, PAPER_SETTINGS.tile[axis]!));
  return { ...PAPER_SETTINGS, tile: tile as unknown as Grid, bucket: [2, grid[1] % 3 === 0 ? 3 : 2, 2] };
}

/**
 * Along one axis. Of the 21 latent frames of 81 frames, tiles of 5 would leave a tile of one frame, and the last six
 * frames would see 11 frames where the others see 15; of 6 the last tile has 3 and sees 15, the others 15 or 18.
 */
function tileLength(length: number, most: number): number {
  const tile = Math.min(most, Math.ceil(length / LEAST_TILES));
  const fits = (size: number) => {
    const tiles = Math.ceil(length / size);
    return tiles >= Math.min(LEAST_TILES, length) && 2 * (length - (tiles - 1) * size) >= size;
  };
  return [tile, tile + 1, Math.max(1, tile - 1)].find(fits) ?? tile;
}

/** The key that the settings stand under in the authors' `config.json`, and in the metadata of tilereel's routers. */
export const SETTINGS_KEY = "self_attention_kwargs";

/**
 * Checks what types cannot say.
 *
 * @param what names the source of the settings in the message
 * @throws {TilereelError} if the rate leaves nothing of a bucket.
 */
export function checkSettings({ bucket, rate }: VortaSettings, what: string): void {
  const tokens = bucket[0] * bucket[1] * bucket[2];
  if (rate < 0 || rate >= 1 || Math.floor(tokens * (1 - rate)) < 1) {
    throw new TilereelError(
      `${what}: a reduction rate of ${rate} keeps nothing of a bucket of ${tokens} tokens; ` +
        `at least its centre must stay, so a rate from 0 to ${Math.max(0, 1 - 1 / tokens)} was expected`,
    );
  }
}

/**
 * Settings in the authors' words.
 *
 * @param kwargs values under {@linkcode SETTINGS_KEY}; what is absent is the paper's
 * @param path names them in messages
 * @throws {TilereelError} if a value is of the wrong type or does not fit.
 */
export function settingsFromKwargs(kwargs: unknown, path: string): VortaSettings {
  if (typeof kwargs !== "object" || kwargs === null || Array.isArray(kwargs)) {
    throw new TilereelError(`${path}: ${SETTINGS_KEY} is ${JSON.stringify(kwargs)}, but a JSON object was expected`);
  }
  const config = new Config(`${path}: ${SETTINGS_KEY}`, kwargs as Record<string, unknown>);
  const sizes = (key: string, absent: Grid) => config.integers(key, absent, 3) as unknown as Grid;
  const settings = {
    tile: sizes("tile_size", PAPER_SETTINGS.tile),
    window: sizes("window_size", PAPER_SETTINGS.window),
    bucket: sizes("lowres_window_size", PAPER_SETTINGS.bucket),
    rate: config.number("lowres_reduction_rate", PAPER_SETTINGS.rate),
  };
  checkSettings(settings, path);
  return settings;
}

/** The reverse of {@linkcode settingsFromKwargs}. */
export function settingsToKwargs({ tile, window, bucket, rate }: VortaSettings): Record<string, unknown> {
  return { lowres_window_size: bucket, lowres_reduction_rate: rate, window_size: window, tile_size: tile };
}
