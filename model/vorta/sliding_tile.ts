/**
 * Sliding-tile attention (Zhang et al. 2025, and VORTA §3.1): the grid is cut into tiles, and a query sees the tiles in
 * a window round its own.
 *
 * @module
 */
import { type Block, cutBlocks, type Run } from "../../gpu/attention_plan.ts";
import { raster, tileOrder } from "../attention/tile_order.ts";
import type { Grid } from "../wan/grid.ts";
import type { VortaSettings } from "./settings.ts";

/** Blocks with what they see. */
export interface BlockRuns {
  readonly blocks: readonly Block[];
  readonly runs: readonly Run[];
}

/** A pattern of attention on the CPU. */
export interface SlidingTiles {
  /** The token in each slot: tile by tile, in raster order within a tile. */
  readonly order: Uint32Array;
  readonly queries: BlockRuns;
  /** The other way round, for gradients. */
  readonly keys: BlockRuns;
  /** Pairs of queries and keys that are kept. */
  readonly pairs: number;
}

/**
 * The pattern of a grid. Tiles that the grid cuts off at its far borders are smaller; at the border the window's centre
 * is clamped so that the window stays whole.
 *
 * @param rows slots of a block at most
 */
export function slidingTiles(grid: Grid, { tile, window }: VortaSettings, rows: number): SlidingTiles {
  const { counts, order, tiles: slots } = tileOrder(grid, tile);
  const seen = tilesSeen(counts, window);
  const seenBy: number[][] = seen.map(() => []);
  for (const [query, keys] of seen.entries()) for (const key of keys) seenBy[key]!.push(query);
  let pairs = 0;
  for (const [query, keys] of seen.entries()) for (const key of keys) pairs += slots[query]!.count * slots[key]!.count;
  return { order, queries: blockRuns(slots, seen, rows), keys: blockRuns(slots, seenBy, rows), pairs };
}

/** For each tile the tiles it sees, rising. */
function tilesSeen(counts: Grid, window: Grid): number[][] {
  return raster(counts).map((place) => {
    const spans = place.map((at, axis) => {
      // As the authors take an even window: as the odd one above it.
      const reach = Math.floor(window[axis]! / 2), width = 2 * reach + 1;
      const first = Math.max(0, Math.min(at - reach, counts[axis]! - width));
      return { first, count: Math.min(width, counts[axis]!) };
    });
    return raster(spans.map(({ count }) => count) as unknown as Grid).map((offset) => {
      const [f, r, c] = offset.map((o, axis) => spans[axis]!.first + o) as unknown as Grid;
      return (f * counts[1] + r) * counts[2] + c;
    });
  });
}

/** Neighbouring tiles become one run: few runs leave few of them partly filled. */
function blockRuns(slots: readonly Run[], seen: readonly (readonly number[])[], rows: number): BlockRuns {
  const blocks: Block[] = [], runs: Run[] = [];
  for (const [tile, others] of seen.entries()) {
    const firstRun = runs.length;
    let open: { first: number; count: number } | undefined;
    for (const other of others) {
      const { first, count } = slots[other]!;
      if (open && open.first + open.count === first) open.count += count;
      else runs.push(open = { first, count });
    }
    blocks.push(...cutBlocks(slots[tile]!, rows, firstRun, runs.length - firstRun));
  }
  return { blocks, runs };
}
