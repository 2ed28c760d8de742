/**
 * Tiles and budgets of heads, on the GPU. Heads may be of several *kinds*, each with tiles and a budget of its own: their
 * tables lie behind each other, and a list of heads says of which kind each is (see `kernels/chosen_heads.ts`). A kind
 * with fewer tiles than another has empty ones behind its own.
 *
 * @module
 */
import { cutBlocks, type Run, type SlotBlock, uploadBlocks, uploadRuns } from "./attention_plan.ts";
import type { Gpu } from "./gpu.ts";
import type { Tensor } from "./tensor.ts";

/** Tiles of consecutive slots. Tile pooling, tile selection and attention over selected tiles share it. */
export interface TileLayout {
  /** [kinds, slots], u32: the token in each slot */
  readonly order: Tensor;
  /** [kinds, tiles, 2], u32: the first slot of each tile, and its number of slots */
  readonly tiles: Tensor;
  /** No tile has more slots. */
  readonly capacity: number;
}

/** How many key tiles each query tile attends to. */
export interface TileBudget {
  /** [kinds, tiles, 2], u32: the index of a query tile's first run, and the number of key tiles selected for it */
  readonly rows: Tensor;
  /** [kinds, blocks, 4], u32: blocks of query tiles, see `BlockList`; behind those of a kind, empty ones */
  readonly blocks: Tensor;
  /** The number of runs of one head: as many as a head of any kind has. */
  readonly runs: number;
  /** Slots after the tiles' that all slots attend to, and that attend to all slots. */
  readonly kept?: Run | undefined;
}

/** The tiles of one kind. */
export interface KindOfTiles {
  /** The token in each slot; of all kinds equally many. */
  readonly order: Uint32Array;
  readonly tiles: readonly Run[];
  /** No tile may have more slots. Default: those of the largest */
  readonly capacity?: number;
}

/** The budget of one kind. */
export interface KindOfBudget {
  readonly tiles: readonly Run[];
  /** The number of key tiles for each query tile, at least one. */
  readonly keep: readonly number[];
}

/** Lists of all kinds behind each other, each as long as the longest. */
function stacked<T>(lists: readonly (readonly T[])[], empty: T): T[] {
  const most = Math.max(...lists.map(({ length }) => length));
  return lists.flatMap((list) => [...list, ...Array<T>(most - list.length).fill(empty)]);
}

const NO_SLOTS: Run = { first: 0, count: 0 }, NO_BLOCK: SlotBlock = { ...NO_SLOTS, firstRun: 0, runs: 0 };

/** Uploads the tiles of one or several kinds. */
export function uploadTileLayout(gpu: Gpu, kinds: readonly KindOfTiles[]): TileLayout {
  const slots = kinds[0]!.order.length, order = new Uint32Array(kinds.length * slots);
  for (const [kind, { order: own }] of kinds.entries()) order.set(own, kind * slots);
  const tiles = stacked(kinds.map(({ tiles }) => tiles), NO_SLOTS);
  // Many kinds of many tiles are too many arguments for one call of Math.max.
  const largest = tiles.reduce((most, { count }) => Math.max(most, count), 0);
  return {
    order: gpu.upload(order, [kinds.length, slots], "u32"),
    tiles: uploadRuns(gpu, tiles).reshape([kinds.length, tiles.length / kinds.length, 2]),
    capacity: Math.max(largest, ...kinds.map(({ capacity = 0 }) => capacity)),
  };
}

/**
 * Uploads the budgets of one or several kinds.
 *
 * @param rows the largest number of slots of a block, see `blockRows`
 * @param kept the slots after the tiles' that are always kept
 */
export function uploadTileBudget(gpu: Gpu, kinds: readonly KindOfBudget[], rows: number, kept?: Run): TileBudget {
  const own = kept ? 1 : 0, sum = (keep: readonly number[]) => keep.reduce((sum, count) => sum + count + own, own);
  const runs = Math.max(...kinds.map(({ keep }) => sum(keep)));
  const lists = kinds.map(({ tiles, keep }) => {
    const blocks: SlotBlock[] = [], selected: Run[] = [];
    let at = 0;
    for (const [row, tile] of tiles.entries()) {
      const count = keep[row]!;
      selected.push({ first: at, count });
      blocks.push(...cutBlocks(tile, rows, at, count + own));
      at += count + own;
    }
    // The last run of all kinds, which their kept slots share.
    if (kept) blocks.push(...cutBlocks(kept, rows, runs - 1, 1));
    return { selected, blocks };
  });
  const selected = stacked(lists.map(({ selected }) => selected), NO_SLOTS);
  const blocks = stacked(lists.map(({ blocks }) => blocks), NO_BLOCK);
  return {
    rows: uploadRuns(gpu, selected).reshape([kinds.length, selected.length / kinds.length, 2]),
    blocks: uploadBlocks(gpu, blocks).reshape([kinds.length, blocks.length / kinds.length, 4]),
    ...{ runs, kept },
  };
}
