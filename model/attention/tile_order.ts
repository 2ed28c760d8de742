/**
 * A grid of tokens cut into tiles.
 *
 * @module
 */
import type { Run } from "../../gpu/attention_plan.ts";
import { type Grid, partCounts, perAxis, product, raster, rasterIndex } from "./grid.ts";

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
  const counts = partCounts(grid, tile);
  const order = new Uint32Array(product(grid));
  const tiles: Run[] = [];
  let at = 0;
  for (const place of raster(counts)) {
    const first = at;
    const from = perAxis((axis) => place[axis] * tile[axis]);
    const size = perAxis((axis) => Math.min(tile[axis], grid[axis] - from[axis]));
    for (const offset of raster(size)) order[at++] = rasterIndex(grid, perAxis((axis) => from[axis] + offset[axis]));
    tiles.push({ first, count: at - first });
  }
  return { counts, order, tiles };
}
