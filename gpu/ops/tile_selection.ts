/**
 * Picks the key tiles that each query tile sees.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { folded, type KernelSource, read, unroll, write } from "../kernel.ts";
import { chosenHead } from "../kernels/chosen_head.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import type { TileBudget, TileLayout } from "../tile_layout.ts";
import { groups1d, INDEX_1D } from "./grid.ts";

const SHARED = {
  buffers: {
    scores: read("u32"),
    tiles: read("vec2u"),
    rows: read("vec2u"),
    head_ids: read("u32"),
    runs: write("vec2u"),
  },
  params: {
    n: "u32",
    heads: "u32",
    chosen: "u32",
    has_heads: "u32",
    /** runs of one head */
    runs_each: "u32",
    /** query tiles in all */
    count: "u32",
  },
} as const;

/**
 * Scores are compared as whole numbers that rise as they do. What a comparison of floats would leave open is settled:
 * −0 equals 0, and NaN is below all numbers. The row's own tile is above all, a tile without tokens below.
 */
const KEY = `
fn key_of(row_at: u32, own: u32, j: u32) -> u32 {
  if (tiles[j].y == 0u) { return 0u; }
  if (j == own) { return 0xffffffffu; }
  let bits = scores[row_at + j];
  let size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) { return 1u; }
  if (size == 0u) { return 0x80000000u; }
  return select(bits | 0x80000000u, ~bits, bits > 0x7fffffffu);
}
// Behind the row's end no tile has tokens.
fn key_at(row_at: u32, own: u32, j: u32) -> u32 {
  if (j >= p.n) { return 0u; }
  return key_of(row_at, own, j);
}`;

/** Defines the row: its query tile `own`, where its scores and runs begin, and the tiles it keeps. */
const ROW = `  let own = row % p.n;
${chosenHead("head", "(row / p.n) % p.chosen")}
  let list = (row / (p.n * p.chosen)) * p.heads + head;
  let row_at = (list * p.n + own) * p.n;
  let runs_at = list * p.runs_each + rows[own].x;
  let keep = rows[own].y;`;

/**
 * For software adapters: a row a thread. Four tiles a turn, for llvmpipe breaks a thread off after 65535 turns in
 * all.
 */
const PLAIN: KernelSource = {
  name: "tile_selection_plain",
  ...SHARED,
  workgroupSize: [64, 1, 1],
  declarations: KEY,
  body: `  ${INDEX_1D}
  if (i >= p.count) { return; }
  let row = i;
${ROW}
  // The highest threshold that enough tiles reach, bit by bit.
  var threshold = 0u;
  for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
    var reached = 0u;
    for (var j = 0u; j < p.n; j += 4u) {
${unroll(4, (i) => `      reached += select(0u, 1u, key_at(row_at, own, j + ${i}u) >= (threshold | bit));`)}
    }
    if (reached >= keep) { threshold |= bit; }
  }
  var above = 0u;
  for (var j = 0u; j < p.n; j += 4u) {
${unroll(4, (i) => `    above += select(0u, 1u, key_at(row_at, own, j + ${i}u) > threshold);`)}
  }
  // Of the tiles just at the threshold the first ones fill what is left.
  var ties = keep - above;
  var at = runs_at;
  for (var j = 0u; j < p.n; j++) {
    let key = key_of(row_at, own, j);
    if (key < threshold || (key == threshold && ties == 0u)) { continue; }
    if (key == threshold) { ties--; }
    runs[at] = tiles[j];
    at++;
  }`,
};

/** Tiles that there may be. */
export const MAX_TILES = 4096;

/** How a row is spread over a workgroup. */
interface RowSpread {
  readonly threads: number;
  /** Neighbouring tiles of one thread, held in registers. */
  readonly each: number;
  readonly subgroups: boolean;
}

/** As few threads as a row needs, for they wait for each other once a bit. */
function rowSpread(n: number, subgroups: boolean): RowSpread {
  const threads = n <= 512 ? 64 : n <= 1024 ? 128 : 256;
  return { threads, each: n <= 2048 ? 8 : MAX_TILES / threads, subgroups };
}

/** For GPUs: a row a workgroup, each thread a stretch of neighbouring tiles. */
const TILED = memo(({ threads, each, subgroups }: RowSpread): KernelSource => {
  const keys = (line: (i: number) => string) => unroll(each, line);
  const scanSteps = Array.from({ length: Math.log2(threads) }, (_, i) => i);
  // The sums of a step are read from one half and written to the other.
  const half = (step: number) => `${step % 2 * threads}u`;
  return {
    name: `tile_selection_${threads}x${each}${subgroups ? "_subgroups" : ""}`,
    ...SHARED,
    subgroups,
    workgroupSize: [threads, 1, 1],
    declarations: `${KEY}
// For each bit the tiles that reach its threshold; begins at 0, and each has its own, so that one barrier a bit is
// enough.
var<workgroup> reached: array<atomic<u32>, 32>;
var<workgroup> scan: array<u32, ${2 * threads}>;`,
    body: `  let row = wid.y * nwg.x + wid.x;
  // The same for the whole workgroup.
  if (row >= p.count) { return; }
${ROW}
  let first = li * ${each}u;
${keys((i) => `  let key${i} = key_at(row_at, own, first + ${i}u);`)}
  // The highest threshold that enough tiles reach, bit by bit.
  var threshold = 0u;
  for (var round = 0u; round < 32u; round++) {
    let step = threshold | (0x80000000u >> round);
    var count = 0u;
${keys((i) => `    count += select(0u, 1u, key${i} >= step);`)}
${
      subgroups
        ? `    count = subgroupAdd(count);
    if (subgroupBroadcastFirst(li) == li) { atomicAdd(&reached[round], count); }`
        : "    if (count > 0u) { atomicAdd(&reached[round], count); }"
    }
    workgroupBarrier();
    if (atomicLoad(&reached[round]) >= keep) { threshold = step; }
  }
  // Tiles above the threshold in the upper half of a number, those at it in the lower one: this thread's, then the sum
  // up to them, which each step takes from twice as far.
  var mine = 0u;
${keys((i) => `  mine += select(0u, 0x10000u, key${i} > threshold) + select(0u, 1u, key${i} == threshold);`)}
  var sum = mine;
  scan[li] = mine;
  workgroupBarrier();
${
      scanSteps.map((step) =>
        `  if (li >= ${2 ** step}u) { sum += scan[${half(step)} + li - ${2 ** step}u]; }
  scan[${half(step + 1)} + li] = sum;
  workgroupBarrier();`
      ).join("\n")
    }
  let ties = keep - (scan[${half(scanSteps.length)} + ${threads - 1}u] >> 16u);
  var before = sum - mine;
  // Of the tiles just at the threshold the first ones fill what is left.
${
      keys((i) =>
        `  {
    let equal = before & 0xffffu;
    if (key${i} > threshold || (key${i} == threshold && equal < ties)) {
      runs[runs_at + (before >> 16u) + min(equal, ties)] = tiles[first + ${i}u];
    }
    before += select(0u, 0x10000u, key${i} > threshold) + select(0u, 1u, key${i} == threshold);
  }`
      )
    }`,
  };
});

/** How heads lie, and which to do. */
export interface TileSelectionOptions {
  readonly heads: number;
  /** [n], u32: heads to do; what belongs to others is left undefined. Default all */
  readonly only?: Tensor | undefined;
}

/**
 * The best key tiles of each query tile, as runs for an attention plan: its own always, which counts, then by score.
 * Ties go to the lower index. A tile without tokens is no choice: where nothing else is left, its run is empty. The
 * runs of a row rise, so that neighbouring tiles are read one after the other. The same scores give the same runs.
 *
 * @param scores [batch · heads, tiles, tiles], f32: query tiles by key tiles
 * @returns [batch · heads, runs, 2], u32: first slot and slots of each tile kept
 */
export function selectTiles(
  gpu: Gpu,
  scores: Tensor,
  { tiles }: Pick<TileLayout, "tiles">,
  budget: Pick<TileBudget, "rows" | "runs">,
  { heads, only }: TileSelectionOptions,
): Tensor {
  const [matrices, n] = scores.shape as [number, number, number];
  if (n > MAX_TILES) throw new Error(`selectTiles: ${n} tiles, but at most ${MAX_TILES} fit`);
  const chosen = only?.dim(0) ?? heads, count = matrices / heads * chosen * n;
  const runs = gpu.tensor([matrices, budget.runs, 2], "u32");
  const subgroups = gpu.settings.description.features.includes("subgroups");
  gpu.run(gpu.software ? PLAIN : TILED(rowSpread(n, subgroups)), {
    buffers: { scores, tiles, rows: budget.rows, head_ids: only ?? gpu.placeholder, runs },
    params: { n, heads, chosen, has_heads: only ? 1 : 0, runs_each: budget.runs, count },
    workgroups: gpu.software ? groups1d(count) : folded(count),
  });
  return runs;
}
