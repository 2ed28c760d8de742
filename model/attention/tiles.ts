import type { Run } from "../../gpu/attention_plan.ts";
import { type Grid, partCounts, perAxis, product, raster } from "./grid.ts";

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
  const counts = partCounts(grid, shape), [, rows, columns] = grid;
  const order = new Uint32Array(product(grid));
  const tiles: Run[] = [];
  let at = 0;
  for (const place of raster(counts)) {
    const first = at;
    const from = perAxis((axis) => place[axis] * shape[axis]);
    const to = perAxis((axis) => Math.min(from[axis] + shape[axis], grid[axis]));
    // A clip has many tokens, and no step begins before these are in order.
    for (let frame = from[0]; frame < to[0]; frame++) {
      for (let row = from[1]; row < to[1]; row++) {
        for (let column = from[2]; column < to[2]; column++) order[at++] = (frame * rows + row) * columns + column;
      }
    }
    tiles.push({ first, count: at - first });
  }
  return { shape, tokens: order.length, capacity: product(shape), counts, order, tiles };
}

/** How many tiles have tokens of the first frames: these are the first tiles. */
export function tilesOfFirst([, rows, columns]: Grid, [length]: Grid, frames = 0): number {
  return Math.ceil(frames / length) * rows * columns;
}
