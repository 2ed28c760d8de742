import { TilereelError } from "../../gpu/common/errors.ts";
import { Config } from "../checkpoint/json.ts";
import { type Grid, perAxis, product } from "../attention/grid.ts";

/** Sizes along frames, rows and columns of VORTA's tiles, windows and buckets. A router is trained for one set. */
export interface VortaSettings {
  /** Tokens of a tile of sliding-tile attention. */
  readonly tile: Grid;
  /** Along each axis, the number of tiles that a query tile attends to, its own included. */
  readonly window: Grid;
  /** Tokens of a bucket of core-set attention. */
  readonly bucket: Grid;
  /** The share of a bucket's tokens that core-set attention drops. */
  readonly rate: number;
}

/** The same settings for all grids, or those for each. */
export type SettingsOfGrids = VortaSettings | ((grid: Grid) => VortaSettings);

/** Those for one grid. */
export function settingsFor(settings: SettingsOfGrids, grid: Grid): VortaSettings {
  return typeof settings === "function" ? settings(grid) : settings;
}

/** The metadata of a router's file: settings that are the same for all grids. */
export function settingsMetadata(settings: SettingsOfGrids): Record<string, string> {
  return typeof settings === "function" ? {} : { [SETTINGS_KEY]: JSON.stringify(settingsToKwargs(settings)) };
}

/** The paper's settings for Wan 2.1, 77 frames at 720p: 20×45×80 tokens. */
export const PAPER_SETTINGS: VortaSettings = { tile: [5, 9, 8], window: [3, 3, 3], bucket: [2, 3, 2], rate: 0.5 };

/** The paper's tile for HunyuanVideo, 117 frames at 720p: 30×45×80 tokens. All else is the same. */
const LARGEST_TILE: Grid = [6, 9, 8];

/** The smallest number of tiles along an axis. With fewer, windows of three tiles leave out little or nothing. */
const LEAST_TILES = 4;

/**
 * The default sizes for a grid: the paper's for the grids of its two models, but tiles are smaller where there would be
 * fewer than four along an axis, and one longer or shorter where the last would be less than half a tile; and buckets fit
 * the rows of the grid.
 */
export function defaultSettings(grid: Grid): VortaSettings {
  const tile = perAxis((axis) => tileLength(grid[axis], LARGEST_TILE[axis]));
  return { ...PAPER_SETTINGS, tile, bucket: [2, grid[1] % 3 === 0 ? 3 : 2, 2] };
}

/**
 * The length of a tile along one axis. Of the 21 latent frames of 81 frames, tiles of 5 would leave a tile of one
 * frame; the last six frames would attend to 11 frames, the others to 15. With tiles of 6, the last tile has 3 frames
 * and attends to 15, the others to 15 or 18.
 */
function tileLength(length: number, most: number): number {
  const tile = Math.min(most, Math.ceil(length / LEAST_TILES));
  const fits = (size: number) => {
    const tiles = Math.ceil(length / size);
    return tiles >= Math.min(LEAST_TILES, length) && 2 * (length - (tiles - 1) * size) >= size;
  };
  return [tile, tile + 1, Math.max(1, tile - 1)].find(fits) ?? tile;
}

/** The key of the settings in the authors' `config.json`, and in the metadata of tilereel's routers. */
export const SETTINGS_KEY = "self_attention_kwargs";

/**
 * Checks conditions that types cannot express.
 *
 * @param what names the source of the settings in the message
 * @throws {TilereelError} if the rate leaves nothing of a bucket.
 */
export function checkSettings({ bucket, rate }: VortaSettings, what: string): void {
  const tokens = product(bucket);
  if (rate < 0 || rate >= 1 || Math.floor(tokens * (1 - rate)) < 1) {
    throw new TilereelError(
      `${what}: a reduction rate of ${rate} keeps nothing of a bucket of ${tokens} tokens; ` +
        `at least its centre must stay, so a rate from 0 to ${Math.max(0, 1 - 1 / tokens)} was expected`,
    );
  }
}

/**
 * Reads settings with the authors' names.
 *
 * @param kwargs values under {@linkcode SETTINGS_KEY}, or JSON of them; absent ones have the paper's values
 * @param path the name of the settings in messages
 * @throws {TilereelError} if a value is of the wrong type or does not fit.
 */
export function settingsFromKwargs(kwargs: unknown, path: string): VortaSettings {
  const config = Config.under(SETTINGS_KEY, kwargs, path);
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

/** The inverse of {@linkcode settingsFromKwargs}. */
export function settingsToKwargs({ tile, window, bucket, rate }: VortaSettings): Record<string, unknown> {
  return { lowres_window_size: bucket, lowres_reduction_rate: rate, window_size: window, tile_size: tile };
}
