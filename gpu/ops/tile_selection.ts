/**
 * Picks the key tiles that each query tile sees.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, unroll, write } from "../kernel.ts";
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
}`;

/** Defines the row: its query tile `own`, where its scores and runs begin, and the tiles it keeps. */
const ROW = `  let own = row % p.n;
  let pick = (row / p.n) % p.chosen;
  let head = (row / (p.n * p.chosen)) * p.heads + select(pick, head_ids[pick], p.has_heads != 0u);
  let row_at = (head * p.n + own) * p.n;
  let runs_at = head * p.runs_each + rows[own].x;
  let keep = rows[own].y;`;

/** For software adapters: a row a thread. */
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
    for (var j = 0u; j < p.n; j++) { reached += select(0u, 1u, key_of(row_at, own, j) >= (threshold | bit)); }
    if (reached >= keep) { threshold |= bit; }
  }
  var above = 0u;
  for (var j = 0u; j < p.n; j++) { above += select(0u, 1u, key_of(row_at, own, j) > threshold); }
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

/** Threads of a workgroup of {@link TILED}: so many partial sums are added up in two steps of 16. */
const THREADS = 256;
/** Tiles that there may be. */
export const MAX_TILES = 4096;

/** For GPUs: a row a workgroup, each thread a stretch of neighbouring tiles. */
const TILED: KernelSource = {
  name: "tile_selection_tiled",
  ...SHARED,
  workgroupSize: [THREADS, 1, 1],
  declarations: `${KEY}
var<workgroup> keys: array<u32, ${MAX_TILES}>;
var<workgroup> partial: array<vec3u, ${THREADS}>;
var<workgroup> sixteenths: array<vec3u, 16>;
// Sums over all threads, for all of them.
fn sum_all(value: vec3u, li: u32) -> vec3u {
  partial[li] = value;
  workgroupBarrier();
  if (li < 16u) {
    var sum = vec3u();
${unroll(16, (i) => `    sum += partial[li * 16u + ${i}u];`)}
    sixteenths[li] = sum;
  }
  workgroupBarrier();
  var sum = vec3u();
${unroll(16, (i) => `  sum += sixteenths[${i}];`)}
  return sum;
}`,
  body: `  let row = wid.y * nwg.x + wid.x;
  // The same for the whole workgroup.
  if (row >= p.count) { return; }
${ROW}
  for (var j = li; j < p.n; j += ${THREADS}u) { keys[j] = key_of(row_at, own, j); }
  workgroupBarrier();
  let each = (p.n + ${THREADS - 1}u) / ${THREADS}u;
  let first = min(li * each, p.n);
  let end = min(first + each, p.n);
  // The highest threshold that enough tiles reach, two bits at a time.
  var threshold = 0u;
  for (var bit = 0x40000000u; bit > 0u; bit >>= 2u) {
    let steps = vec3u(threshold) + bit * vec3u(1u, 2u, 3u);
    var reached = vec3u();
    for (var j = first; j < end; j++) { reached += select(vec3u(), vec3u(1u), vec3u(keys[j]) >= steps); }
    reached = sum_all(reached, li);
    // Fewer reach a higher step, so the steps that enough reach are counted.
    let enough = select(vec3u(), vec3u(1u), reached >= vec3u(keep));
    threshold += bit * (enough.x + enough.y + enough.z);
  }
  // Tiles above the threshold and at it: in all, and before this thread's.
  var mine = vec3u();
  for (var j = first; j < end; j++) {
    mine += vec3u(select(0u, 1u, keys[j] > threshold), select(0u, 1u, keys[j] == threshold), 0u);
  }
  let all = sum_all(mine, li);
  let ties = keep - all.x;
  var before = vec3u();
  for (var i = 0u; i < li / 16u; i++) { before += sixteenths[i]; }
  for (var i = li / 16u * 16u; i < li; i++) { before += partial[i]; }
  // Of the tiles just at the threshold the first ones fill what is left.
  for (var j = first; j < end; j++) {
    let key = keys[j];
    if (key > threshold || (key == threshold && before.y < ties)) {
      runs[runs_at + before.x + min(before.y, ties)] = tiles[j];
    }
    before += vec3u(select(0u, 1u, key > threshold), select(0u, 1u, key == threshold), 0u);
  }`,
};

/** How heads lie, and which to do. */
export interface TileSelectionOptions {
  readonly heads: number;
  /** [n], u32: heads to do; what belongs to others is left undefined. Default all */
  readonly only?: Tensor | undefined;
}

/**
 * The best key tiles of each query tile, as runs for an attention plan: its own always, which counts, then by score.
 * Ties go to the lower index. A tile without tokens is no choice: where nothing else is left, its run is empty. The runs
 * of a row rise, so that neighbouring tiles are read one after the other. The same scores give the same runs.
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
  gpu.run(gpu.software ? PLAIN : TILED, {
    buffers: { scores, tiles, rows: budget.rows, head_ids: only ?? gpu.placeholder, runs },
    params: { n, heads, chosen, has_heads: only ? 1 : 0, runs_each: budget.runs, count },
    workgroups: gpu.software ? groups1d(count) : [Math.min(count, 65535), Math.ceil(count / 65535), 1],
  });
  return runs;
}
