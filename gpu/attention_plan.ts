import type { Gpu } from "./gpu.ts";
import type { Tensor } from "./tensor.ts";

/** A block of slots that are processed together, and the list of runs that its queries attend to. */
export interface SlotBlock {
  readonly first: number;
  /** Number of slots, at most `blockRows`. */
  readonly count: number;
  /** Index of its first run in the list of runs. */
  readonly firstRun: number;
  /** Number of runs, at least one. */
  readonly runs: number;
}

export interface Run {
  readonly first: number;
  /** At least one. */
  readonly count: number;
}

/** Blocks and the runs that they attend to, on the GPU. */
export interface BlockList {
  /** [blocks, 4], u32: the fields of {@link SlotBlock}; or [kinds, blocks, 4], where heads are of several kinds */
  readonly blocks: Tensor;
  /** [lists, runs, 2], u32: the fields of {@link Run}; one list for all heads, or one for each of batch · heads */
  readonly runs: Tensor;
}

/**
 * A pattern of self-attention over a sequence of slots: which queries see which keys. Sparse attention is the same
 * computation as dense attention over fewer pairs, so a new pattern is a new plan, not a new kernel.
 */
export interface AttentionPlan {
  /**
   * [orders, slots], u32: the token in each slot. One order for all heads, or one for each of batch · heads; or one for
   * each kind of heads, if blocks are by kind. Tokens in no slot take no part: nothing attends to them, and their output
   * is not written. Where queries and keys have orders of their own, a token lies in two slots, in one as a key and in
   * the other as a query.
   */
  readonly order: Tensor;
  /** The number of slots from the first on that hold all keys. Default: all slots */
  readonly keySlots?: number | undefined;
  /** For each block of queries, the keys that it attends to. Used for the forward pass and the gradients of queries. */
  readonly queries: BlockList;
  /**
   * For each block of keys, the queries that attend to it. Used for the gradients of keys and values; absent for
   * inference.
   */
  readonly keys?: BlockList;
}

/** Cuts a range of slots into blocks that all attend to the same runs. */
export function cutBlocks({ first, count }: Run, rows: number, firstRun: number, runs: number): SlotBlock[] {
  return Array.from({ length: Math.ceil(count / rows) }, (_, i) => ({
    first: first + i * rows,
    count: Math.min(rows, count - i * rows),
    firstRun,
    runs,
  }));
}

/** Uploads blocks, as `BlockList` has them. */
export function uploadBlocks(gpu: Gpu, blocks: readonly SlotBlock[]): Tensor {
  const fields = new Uint32Array(4 * blocks.length);
  for (const [i, { first, count, firstRun, runs }] of blocks.entries()) {
    fields.set([first, count, firstRun, runs], 4 * i);
  }
  return gpu.upload(fields, [blocks.length, 4], "u32");
}

/** Uploads runs as [runs, 2], u32. */
export function uploadRuns(gpu: Gpu, runs: readonly Run[]): Tensor {
  const fields = new Uint32Array(2 * runs.length);
  for (const [i, { first, count }] of runs.entries()) fields.set([first, count], 2 * i);
  return gpu.upload(fields, [runs.length, 2], "u32");
}

/** Uploads blocks and one list of runs that all heads share. */
export function uploadBlockList(gpu: Gpu, blocks: readonly SlotBlock[], runs: readonly Run[]): BlockList {
  return { blocks: uploadBlocks(gpu, blocks), runs: uploadRuns(gpu, runs).reshape([1, runs.length, 2]) };
}
