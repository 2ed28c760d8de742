import type { Run } from "../../gpu/attention_plan.ts";
import { type Grid, partCounts, perAxis, product, raster, rasterIndex } from "./grid.ts";

/** A grid that is cut into tiles of one shape. */
export interface TiledGrid {
  readonly shape: Grid;
  readonly tokens: number;
  /** The number of tokens of a whole tile. */
  readonly capacity: number;
  /** The number of tiles along frames, rows and columns. */
  readonly counts: Grid;
  /** The token in each slot: tiles in raster order, tokens in raster order within a tile. */
  readonly order: Uint32Array;
  /** The slots of each tile. Those at the far borders may have fewer, but none is empty. */
  readonly tiles: readonly Run[];
}

/** Cuts a grid into tiles of one shape. Tiles at the far borders are cut off. */
export function tileGrid(grid: Grid, shape: Grid): TiledGrid {
  const counts = partCounts(grid, shape);
  const order = new Uint32Array(product(grid));
  const tiles: Run[] = [];
  let at = 0;
  for (const place of raster(counts)) {
    const first = at;
    const from = perAxis((axis) => place[axis] * shape[axis]);
    const size = perAxis((axis) => Math.min(shape[axis], grid[axis] - from[axis]));
    for (const offset of raster(size)) order[at++] = rasterIndex(grid, perAxis((axis) => from[axis] + offset[axis]));
    tiles.push({ first, count: at - first });
  }
  return { shape, tokens: order.length, capacity: product(shape), counts, order, tiles };
}

/** How many tiles have tokens of the first frames: these are the first tiles. */
export function tilesOfFirst([, rows, columns]: Grid, [length]: Grid, frames = 0): number {
  return Math.ceil(frames / length) * rows * columns;
}
