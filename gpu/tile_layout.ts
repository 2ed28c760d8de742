import { cutBlocks, type Run, type SlotBlock, uploadBlocks, uploadRuns } from "./attention_plan.ts";
import type { Gpu } from "./gpu.ts";
import type { Tensor } from "./tensor.ts";

/** Tiles of consecutive slots, on the GPU. Tile pooling, tile selection and attention over selected tiles share it. */
export interface TileLayout {
  /** [1, slots], u32: the token in each slot */
  readonly order: Tensor;
  /** [tiles, 2], u32: the first slot of each tile, and its number of slots */
  readonly tiles: Tensor;
  /** The largest number of slots of a tile. */
  readonly largest: number;
}

/** How many key tiles each query tile attends to. */
export interface TileBudget {
  /** [tiles, 2], u32: the index of a query tile's first run, and the number of key tiles that are selected for it */
  readonly rows: Tensor;
  /** [blocks, 4], u32: blocks of query tiles, see `BlockList` */
  readonly blocks: Tensor;
  /** The number of runs of one head. */
  readonly runs: number;
  /** Slots after the tiles' that all slots attend to, and that attend to all slots. */
  readonly kept?: Run | undefined;
}

export function uploadTileLayout(gpu: Gpu, order: Uint32Array, tiles: readonly Run[]): TileLayout {
  const largest = tiles.reduce((most, { count }) => Math.max(most, count), 0);
  return { order: gpu.upload(order, [1, order.length], "u32"), tiles: uploadRuns(gpu, tiles), largest };
}

/**
 * Uploads a budget.
 *
 * @param keep the number of key tiles for each query tile, at least one
 * @param rows the largest number of slots of a block, see `blockRows`
 * @param kept the slots after the tiles' that are always kept
 */
export function uploadTileBudget(
  gpu: Gpu,
  tiles: readonly Run[],
  keep: readonly number[],
  rows: number,
  kept?: Run,
): TileBudget {
  const blocks: SlotBlock[] = [], selected: Run[] = [];
  let runs = 0;
  const add = (slots: Run, count: number) => {
    blocks.push(...cutBlocks(slots, rows, runs, count));
    runs += count;
  };
  for (const [row, tile] of tiles.entries()) {
    selected.push({ first: runs, count: keep[row]! });
    add(tile, keep[row]! + (kept ? 1 : 0));
  }
  if (kept) add(kept, 1);
  return { rows: uploadRuns(gpu, selected), blocks: uploadBlocks(gpu, blocks), runs, kept };
}
