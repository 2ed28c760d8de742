/**
 * Slots that lie in tiles, on the GPU: what tile pooling, tile selection and attention over selected tiles share.
 *
 * @module
 */
import { cutBlocks, type Run } from "./attention_plan.ts";
import type { Gpu } from "./gpu.ts";
import type { Tensor } from "./tensor.ts";

/** Tiles of neighbouring slots. */
export interface TileLayout {
  /** [1, slots], u32: the token in each slot */
  readonly order: Tensor;
  /** [tiles, 2], u32: the first slot of each tile, and how many it has */
  readonly tiles: Tensor;
}

/** How many key tiles each query tile sees. */
export interface TileBudget {
  /** [tiles, 2], u32: number of the first of a query tile's runs, and how many it has */
  readonly rows: Tensor;
  /** [blocks, 4], u32: blocks of query tiles, see `BlockList` */
  readonly blocks: Tensor;
  /** Runs of all query tiles of one head. */
  readonly runs: number;
}

/** Puts a layout on the GPU. */
export function uploadTileLayout(gpu: Gpu, order: Uint32Array, tiles: readonly Run[]): TileLayout {
  return {
    order: gpu.upload(order, [1, order.length], "u32"),
    tiles: gpu.upload(Uint32Array.from(tiles.flatMap(({ first, count }) => [first, count])), [tiles.length, 2], "u32"),
  };
}

/**
 * Puts a budget on the GPU.
 *
 * @param keep key tiles of each query tile, at least one
 * @param rows slots of a block at most, see `blockRows`
 */
export function uploadTileBudget(gpu: Gpu, tiles: readonly Run[], keep: readonly number[], rows: number): TileBudget {
  const blocks: number[] = [], spans: number[] = [];
  let runs = 0;
  for (const [row, tile] of tiles.entries()) {
    const count = keep[row]!;
    for (const block of cutBlocks(tile, rows, runs, count)) blocks.push(block.first, block.count, runs, count);
    spans.push(runs, count);
    runs += count;
  }
  return {
    rows: gpu.upload(Uint32Array.from(spans), [tiles.length, 2], "u32"),
    blocks: gpu.upload(Uint32Array.from(blocks), [blocks.length / 4, 4], "u32"),
    runs,
  };
}
