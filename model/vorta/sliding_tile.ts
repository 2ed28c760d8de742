import { cutBlocks, type Run, type SlotBlock } from "../../gpu/attention_plan.ts";
import { type Grid, perAxis, raster, rasterIndex } from "../attention/grid.ts";
import { type TokenLayout, withKept } from "../attention/layout.ts";
import { tileGrid, tilesOfFirst } from "../attention/tiles.ts";
import type { VortaSettings } from "./settings.ts";

/** Blocks and the runs that they attend to. */
export interface BlockRuns {
  readonly blocks: readonly SlotBlock[];
  readonly runs: readonly Run[];
}

/** A pattern of attention on the CPU. */
export interface SlidingTiles {
  /** The token in each slot: tile by tile, with tiles of one window side by side; in raster order within a tile. */
  readonly order: Uint32Array;
  readonly queries: BlockRuns;
  /** The reverse direction, for gradients. */
  keys(): BlockRuns;
  /** The number of pairs of queries and keys that are kept. */
  readonly pairs: number;
}

/**
 * Sliding-tile attention (Zhang et al. 2025, and VORTA §3.1). A layout's grid is cut into tiles, and a query attends to
 * the tiles in a window around its own. Tiles at the far borders are cut off by the grid. At the border, the window's
 * centre is clamped so that the window stays whole. Every token attends to the kept tokens and to tiles with frames that
 * are known, and kept tokens attend to every token.
 *
 * @param rows the largest number of slots of a block
 */
export function slidingTiles(layout: TokenLayout, { tile, window }: VortaSettings, rows: number): SlidingTiles {
  const { counts, order: tokens, tiles } = tileGrid(layout.grid, tile);
  const ordered = withKept(tokens, layout), kept = ordered.length - tokens.length;
  const always = tilesOfFirst(counts, tile, layout.known);
  const windows = tilesSeen(counts, window);
  const withKnown = always === 0
    ? windows
    : windows.map((tiles) => [...Array(always).keys(), ...tiles.filter((at) => at >= always)]);
  // The kept tokens are one more tile.
  const all = kept > 0
    ? [...withKnown.map((seen) => [...seen, tiles.length]), [...Array(tiles.length + 1).keys()]]
    : withKnown;
  const seen = alike(all), parts = kept > 0 ? [...tiles, { first: tokens.length, count: kept }] : tiles;
  // Tiles of one window are side by side, so that they share blocks, and few blocks are partly filled.
  const places = [...Map.groupBy(seen.keys(), (query) => seen[query]).values()].flat();
  const order = new Uint32Array(ordered.length), slots: Run[] = [];
  let at = 0;
  for (const place of places) {
    const { first, count } = parts[place]!;
    order.set(ordered.subarray(first, first + count), at);
    slots[place] = { first: at, count };
    at += count;
  }
  let pairs = 0;
  for (const [query, keys] of seen.entries()) for (const key of keys) pairs += slots[query]!.count * slots[key]!.count;
  const keys = () => {
    const seenBy: number[][] = seen.map(() => []);
    for (const [query, keys] of seen.entries()) for (const key of keys) seenBy[key]!.push(query);
    return blockRuns(places, slots, alike(seenBy), rows);
  };
  return { order, queries: blockRuns(places, slots, seen, rows), keys, pairs };
}

/** The same lists; equal ones are the same object. */
function alike(lists: readonly (readonly number[])[]): (readonly number[])[] {
  const known = new Map<string, readonly number[]>();
  return lists.map((list) => {
    const key = list.join(), first = known.get(key) ?? list;
    known.set(key, first);
    return first;
  });
}

/** For each tile, the tiles that it attends to, in ascending order. */
function tilesSeen(counts: Grid, window: Grid): number[][] {
  // An even window counts as the next larger odd one, as in the authors' code.
  const width = perAxis((axis) => Math.min(2 * Math.floor(window[axis] / 2) + 1, counts[axis]));
  // From a window's first tile on.
  const offsets = raster(width).map((offset) => rasterIndex(counts, offset));
  return raster(counts).map((place) => {
    const first = rasterIndex(
      counts,
      perAxis((axis) => Math.max(0, Math.min(place[axis] - Math.floor(window[axis] / 2), counts[axis] - width[axis]))),
    );
    return offsets.map((offset) => first + offset);
  });
}

/**
 * @param places tiles, by their slots
 * @param seen for each tile, those that it is paired with; equal lists are the same object
 */
function blockRuns(
  places: readonly number[],
  slots: readonly Run[],
  seen: readonly (readonly number[])[],
  rows: number,
): BlockRuns {
  const blocks: SlotBlock[] = [], runs: Run[] = [];
  for (const tiles of joined(places, (a, b) => seen[a] === seen[b])) {
    const firstRun = runs.length, others = seen[tiles[0]!]!.map((tile) => slots[tile]!);
    // Adjacent tiles become one run: with few runs, few are partly filled.
    const rising = others.sort((a, b) => a.first - b.first);
    for (const run of joined(rising, (a, b) => a.first + a.count === b.first)) runs.push(whole(run));
    blocks.push(...cutBlocks(whole(tiles.map((tile) => slots[tile]!)), rows, firstRun, runs.length - firstRun));
  }
  return { blocks, runs };
}

/** Splits a list wherever two neighbours do not belong together. */
function joined<T>(list: readonly T[], together: (a: T, b: T) => boolean): T[][] {
  const parts: T[][] = [];
  for (const item of list) {
    const last = parts.at(-1);
    if (last && together(last.at(-1)!, item)) last.push(item);
    else parts.push([item]);
  }
  return parts;
}

/** Merges runs that follow each other. */
function whole(runs: readonly Run[]): Run {
  return { first: runs[0]!.first, count: runs.reduce((sum, { count }) => sum + count, 0) };
}
