/**
 * The sizes of VORTA's attention that benchmarks measure.
 *
 * @module
 */
import { defaultSettings, PAPER_SETTINGS, type VortaSettings } from "../model/vorta/settings.ts";
import type { Grid } from "../model/attention/grid.ts";

/** The default ones, with tiles of no more than the five frames that the authors trained with: figures stay comparable. */
export function measuredSettings(grid: Grid): VortaSettings {
  const { tile: [frames, ...rest], ...others } = defaultSettings(grid);
  return { ...others, tile: [Math.min(frames, PAPER_SETTINGS.tile[0]), ...rest] };
}
