import type { Gpu } from "../gpu.ts";
import { folded, type KernelSource, read, u32s, unroll, write } from "../kernel.ts";
import { chosenHead, chosenHeads, HEAD_PARAMS, type Heads } from "../kernels/chosen_heads.ts";
import { memo } from "../kernels/memo.ts";
import { SORT_KEY } from "../kernels/sort_key.ts";
import type { Tensor } from "../tensor.ts";
import type { TileBudget, TileLayout } from "../tile_layout.ts";
import { groups1d, perElement } from "../kernels/per_element.ts";

const SHARED = {
  buffers: {
    ...{ scores: read("u32"), tiles: read("vec2u"), rows: read("vec2u"), head_ids: read("u32") },
    runs: write("vec2u"),
  },
  // There are `count` query tiles, and `runs_each` runs of one head. `kept_…` are the slots that are always kept.
  params: {
    n: "u32",
    ...HEAD_PARAMS,
    ...u32s("runs_each", "count", "kept_first", "kept_count", "keeps_own", "always"),
  },
} as const;

/**
 * Scores are compared by {@link SORT_KEY}, but NaN is less than all numbers. The row's own tile is above all others
 * where it is always kept, then those that all rows keep; an empty tile is below.
 */
const KEY = `${SORT_KEY}
fn key_of(row_at: u32, tiles_at: u32, own: u32, j: u32) -> u32 {
  if (tiles[tiles_at + j].y == 0u) { return 0u; }
  if (j == own && p.keeps_own != 0u) { return 0xffffffffu; }
  if (j < p.always) { return 0xfffffffeu; }
  let bits = scores[row_at + j];
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 1u; }
  return sort_key(bits);
}
// There are no tokens past the end of the row.
fn key_at(row_at: u32, tiles_at: u32, own: u32, j: u32) -> u32 {
  if (j >= p.n) { return 0u; }
  return key_of(row_at, tiles_at, own, j);
}`;

/** Stores the runs that are not selected: after a row's own, the kept slots; after all rows', what those attend to. */
const STORE_KEPT = `  if (p.kept_count > 0u) {
    runs[runs_at + keep] = vec2u(p.kept_first, p.kept_count);
    if (own == 0u) { runs[(list + 1u) * p.runs_each - 1u] = vec2u(0u, p.kept_first + p.kept_count); }
  }`;

/** Defines the row: its query tile `own`, the offsets of its scores and runs, and the number of tiles it keeps. */
const ROW = `  let own = row % p.n;
${chosenHead("head", "(row / p.n) % p.chosen")}
  let list = (row / (p.n * p.chosen)) * p.heads + head;
  let row_at = (list * p.n + own) * p.n;
  let tiles_at = kind * p.n;
  let keep = rows[tiles_at + own].y;
  // The row of no tile: the head's kind has fewer than others.
  if (keep == 0u) { return; }
  let runs_at = list * p.runs_each + rows[tiles_at + own].x;`;

/**
 * For software adapters: one thread for each row. It takes four tiles per iteration, because llvmpipe stops a thread
 * after 65535 iterations.
 */
const PLAIN = perElement({
  name: "tile_selection_plain",
  ...SHARED,
  declarations: KEY,
  body: `  let row = i;
${ROW}
  // Finds the highest threshold that enough tiles reach, bit by bit.
  var threshold = 0u;
  for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
    var reached = 0u;
    for (var j = 0u; j < p.n; j += 4u) {
${unroll(4, (i) => `      reached += select(0u, 1u, key_at(row_at, tiles_at, own, j + ${i}u) >= (threshold | bit));`)}
    }
    if (reached >= keep) { threshold |= bit; }
  }
  var above = 0u;
  for (var j = 0u; j < p.n; j += 4u) {
${unroll(4, (i) => `    above += select(0u, 1u, key_at(row_at, tiles_at, own, j + ${i}u) > threshold);`)}
  }
  // Of the tiles exactly at the threshold, the first ones fill the remaining places.
  var ties = keep - above;
  var at = runs_at;
  for (var j = 0u; j < p.n; j++) {
    let key = key_of(row_at, tiles_at, own, j);
    if (key < threshold || (key == threshold && ties == 0u)) { continue; }
    if (key == threshold) { ties--; }
    runs[at] = tiles[tiles_at + j];
    at++;
  }
${STORE_KEPT}`,
});

/** The largest number of tiles. */
export const MAX_TILES = 4096;

/** How a row is distributed over a workgroup. */
interface RowSpread {
  readonly threads: number;
  /** The number of neighbouring tiles that one thread holds in registers. */
  readonly each: number;
  readonly subgroups: boolean;
}

/** As few threads as a row needs, because they synchronize once per bit. */
function rowSpread(n: number, subgroups: boolean): RowSpread {
  const threads = n <= 512 ? 64 : n <= 1024 ? 128 : 256;
  return { threads, each: n <= 2048 ? 8 : MAX_TILES / threads, subgroups };
}

/** For GPUs: one workgroup for each row. Each thread holds a range of neighbouring tiles. */
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
// For each bit, the number of tiles that reach its threshold. Each bit has its own counter, which starts at 0, so that
// one barrier per bit is enough.
var<workgroup> reached: array<atomic<u32>, 32>;
var<workgroup> scan: array<u32, ${2 * threads}>;`,
    body: `  let row = wid.y * nwg.x + wid.x;
  // The same for the whole workgroup.
  if (row >= p.count) { return; }
${ROW}
  let first = li * ${each}u;
${keys((i) => `  let key${i} = key_at(row_at, tiles_at, own, first + ${i}u);`)}
  // Finds the highest threshold that enough tiles reach, bit by bit.
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
  // The upper half of a number counts tiles above the threshold, the lower half those at it. It starts with this
  // thread's count and becomes a prefix sum; each step adds the value from twice as far away.
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
  // Of the tiles exactly at the threshold, the first ones fill the remaining places.
${
      keys((i) =>
        `  {
    let equal = before & 0xffffu;
    if (key${i} > threshold || (key${i} == threshold && equal < ties)) {
      runs[runs_at + (before >> 16u) + min(equal, ties)] = tiles[tiles_at + first + ${i}u];
    }
    before += select(0u, 0x10000u, key${i} > threshold) + select(0u, 1u, key${i} == threshold);
  }`
      )
    }
  if (li > 0u) { return; }
${STORE_KEPT}`,
  };
});

/**
 * Selects the best key tiles of each query tile, as runs for an attention plan. A tile's own key tile is always
 * selected and counts, unless `ownTile` is false; so are the first tiles, as many as `always` says; others follow by score, and ties go to the lower index. An empty
 * tile is selected only if nothing else is left, and its run is empty. The runs of a row are sorted, so that neighbouring
 * tiles are read one after the other. The same scores give the same runs. Where slots are always kept, a row ends with a
 * run of them, and the last run of a list is what they attend to: all slots.
 *
 * @param scores [batch · heads, tiles, tiles], f32: query tiles by key tiles
 * @returns [batch · heads, runs, 2], u32: first slot and number of slots of each tile kept
 */
export function selectTiles(
  gpu: Gpu,
  scores: Tensor,
  { tiles }: Pick<TileLayout, "tiles">,
  budget: Pick<TileBudget, "rows" | "runs" | "kept">,
  { ownTile = true, always = 0, ...heads }: Heads & { readonly ownTile?: boolean; readonly always?: number },
): Tensor {
  const [matrices, n] = scores.shape as [number, number, number];
  if (n > MAX_TILES) throw new Error(`selectTiles: ${n} tiles, but at most ${MAX_TILES} fit`);
  const { chosen, head_ids, params } = chosenHeads(gpu, heads), count = matrices / heads.heads * chosen * n;
  const runs = gpu.tensor([matrices, budget.runs, 2], "u32");
  const subgroups = gpu.settings.description.features.includes("subgroups");
  gpu.run(gpu.kernels.plain ? PLAIN : TILED(rowSpread(n, subgroups)), {
    buffers: { scores, tiles, rows: budget.rows, head_ids, runs },
    params: {
      ...{ ...params, n, runs_each: budget.runs, count },
      ...{ kept_first: budget.kept?.first ?? 0, kept_count: budget.kept?.count ?? 0 },
      ...{ keeps_own: ownTile ? 1 : 0, always },
    },
    workgroups: gpu.kernels.plain ? groups1d(count) : folded(count),
  });
  return runs;
}
