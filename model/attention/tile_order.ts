/**
 * A grid of tokens cut into tiles.
 *
 * @module
 */
import type { Run } from "../../gpu/attention_plan.ts";
import type { Grid } from "./grid.ts";

/** The order of tokens, tile by tile. */
export interface TileOrder {
  /** The number of tiles along frames, rows and columns. */
  readonly counts: Grid;
  /** The token in each slot: tiles in raster order, tokens in raster order within a tile. */
  readonly order: Uint32Array;
  /** The slots of each tile. Tiles at the far borders may have fewer. */
  readonly tiles: readonly Run[];
}

/** Cuts a grid into tiles of one shape. Tiles at the far borders are cut off. */
export function tileOrder(grid: Grid, tile: Grid): TileOrder {
  const counts = grid.map((length, axis) => Math.ceil(length / tile[axis]!)) as unknown as Grid;
  const order = new Uint32Array(grid[0] * grid[1] * grid[2]);
  const tiles: Run[] = [];
  let at = 0;
  for (const corner of raster(counts)) {
    const first = at;
    const from = corner.map((c, axis) => c * tile[axis]!) as unknown as Grid;
    const to = from.map((f, axis) => Math.min(f + tile[axis]!, grid[axis]!)) as unknown as Grid;
    for (let f = from[0]; f < to[0]; f++) {
      for (let r = from[1]; r < to[1]; r++) {
        for (let c = from[2]; c < to[2]; c++) order[at++] = (f * grid[1] + r) * grid[2] + c;
      }
    }
    tiles.push({ first, count: at - first });
  }
  return { counts, order, tiles };
}

/** All positions of a grid in raster order. */
export function raster([frames, rows, columns]: Grid): Grid[] {
  return Array.from({ length: frames * rows * columns }, (_, i) => [
    Math.floor(i / (rows * columns)),
    Math.floor(i / columns) % rows,
    i % columns,
  ]);
}
