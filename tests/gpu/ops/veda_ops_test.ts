import { attention } from "../../../gpu/ops/attention.ts";
import { matmul } from "../../../gpu/ops/matmul.ts";
import { poolTiles } from "../../../gpu/ops/tile_pooling.ts";
import { projectTiles, randomScores, tileScores } from "../../../gpu/ops/tile_scores.ts";
import { MAX_TILES, selectTiles } from "../../../gpu/ops/tile_selection.ts";
import { tileVectors } from "../../../gpu/ops/tile_vectors.ts";
import { blockRows } from "../../../gpu/ops/attention_family.ts";
import { type TileLayout, uploadTileBudget, uploadTileLayout } from "../../../gpu/tile_layout.ts";
import { Gpu } from "../../../gpu/gpu.ts";
import { budget, keptPairs } from "../../../model/veda/budget.ts";
import { tileGrid } from "../../../model/attention/tiles.ts";
import {
  blockFill,
  defaultCapacity,
  defaultShape,
  padding,
  possibleShapes,
  type TileShape,
} from "../../../model/veda/tile_shapes.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import { assert, assertEquals } from "@std/assert";
import { assertClose, plainOnly, randn, testVariants, toBf16 } from "../../gpu.ts";
import { attend } from "../../reference_attention.ts";

const BATCH = 2, HEADS = 3;

/** Whole tiles, partial ones at every border, one token, one tile larger than the grid, a row of one-token tiles. */
const CASES: readonly (readonly [Grid, TileShape, headDim: number])[] = [
  [[4, 4, 8], [2, 2, 4], 32],
  [[3, 5, 7], [2, 2, 4], 32],
  [[1, 1, 1], [1, 4, 4], 32],
  [[2, 3, 3], [4, 4, 4], 16],
  [[1, 1, 19], [1, 1, 1], 16],
  [[3, 6, 9], [1, 4, 32], 64],
];

/** The tile of each token, by definition. */
function tileOf([, rows, columns]: Grid, [t, h, w]: TileShape): (token: number) => number {
  const down = Math.ceil(rows / h), across = Math.ceil(columns / w);
  return (token) => {
    const [f, r, c] = [Math.floor(token / (rows * columns)), Math.floor(token / columns) % rows, token % columns];
    return (Math.floor(f / t) * down + Math.floor(r / h)) * across + Math.floor(c / w);
  };
}

function upload(gpu: Gpu, grid: Grid, shape: TileShape): TileLayout & { release(): void } {
  const { order, tiles } = tileGrid(grid, shape);
  const layout = uploadTileLayout(gpu, [{ order, tiles }]);
  return { ...layout, release: () => [layout.order, layout.tiles].forEach((t) => gpu.release(t)) };
}

/** Rows `heads` of both batch items of a [batch · heads, …] tensor. */
function ofHeads(x: ArrayLike<number>, heads: readonly number[], each: number): number[] {
  return [...Array(BATCH).keys()].flatMap((b) =>
    heads.flatMap((h) => Array.from({ length: each }, (_, i) => x[(b * HEADS + h) * each + i]!))
  );
}

Deno.test("a grid is cut into tiles of whole tokens, in raster order, each token once", () => {
  for (const [grid, shape] of CASES) {
    const { order, tiles, tokens } = tileGrid(grid, shape);
    const of = tileOf(grid, shape);
    assertEquals([...order].sort((a, b) => a - b), [...Array(tokens).keys()]);
    for (const [i, { first, count }] of tiles.entries()) {
      const inside = [...order.subarray(first, first + count)];
      assert(count > 0);
      assert(inside.every((token) => of(token) === i));
      assertEquals(inside, [...inside].sort((a, b) => a - b));
    }
  }
});

Deno.test("shapes: all of a product; the default is compact where padding allows it", () => {
  assertEquals(possibleShapes(4), [[1, 1, 4], [1, 2, 2], [1, 4, 1], [2, 1, 2], [2, 2, 1], [4, 1, 1]]);
  assertEquals(padding([3, 5, 7], [2, 2, 4]), 4 * 6 * 8 / 105 - 1);
  assertEquals(defaultShape([8, 8, 8], 8), [2, 2, 2]);
  // Wan's grids at 480p and 720p, 81 frames. At 720p 2×8×8 is the most compact, but fills 93.75 % of its blocks.
  assertEquals(defaultShape([21, 30, 52], 128), [2, 16, 4]);
  assertEquals(defaultShape([21, 45, 80], 128), [2, 4, 16]);
  assert(padding([21, 45, 80], [2, 4, 16]) <= 0.2);
  assertEquals(blockFill(tileGrid([21, 30, 52], [2, 16, 4])), 0.9375);
  assertEquals(blockFill(tileGrid([21, 45, 80], [2, 8, 8])), 0.9375);
  assert(blockFill(tileGrid([21, 45, 80], [2, 4, 16])) > 0.97);
  // Nothing of 128 tokens fits a grid of one: the least padded is as good as any.
  assertEquals(defaultShape([1, 1, 1], 4), [1, 1, 4]);
  assertEquals([[8, 8, 8], [8, 16, 16], [21, 30, 52], [1, 1, 1]].map((grid) => defaultCapacity(grid as never)), [
    32,
    128,
    128,
    16,
  ]);
});

Deno.test("budgets: padding buys nothing, fractions are spread, one at least, all from a ratio of 1 on", () => {
  const of = (keep: number, n: number, tokens = 10 * n, capacity = 10) =>
    budget(keep, { tokens, capacity, tiles: Array.from({ length: n }, () => ({ first: 0, count: 10 })) });
  assertEquals(of(0.25, 4), [1, 1, 1, 1]);
  assertEquals(of(0.3, 5), [1, 2, 1, 2, 1]);
  // 20 · 0.0575 − 1 is less than 0.15 by 1e-16, which must not cost the last row its turn.
  assertEquals(of(0.0575, 20).flatMap((keep, row) => keep === 2 ? [row] : []), [6, 13, 19]);
  assertEquals(of(0.01, 3), [1, 1, 1]);
  assertEquals(of(1, 3), [3, 3, 3]);
  // 3 ideal tiles in 4: 0.5 · 9 / 4 each.
  assertEquals(of(0.5, 4, 30), [1, 1, 1, 1]);
  assertEquals(of(0.5, 8, 30), [1, 1, 1, 1, 1, 1, 1, 1]);
  assertEquals(of(1, 4, 30), [4, 4, 4, 4]);
  assertEquals(of(2, 4, 30), [4, 4, 4, 4]);
  assertEquals(keptPairs([3, 3, 3], tileGrid([1, 1, 5], [1, 1, 2])), 25);
  assertEquals(keptPairs([1, 2], tileGrid([1, 1, 4], [1, 1, 2])), 12);
});

testVariants("tile pooling: mean, maximum, minimum of each tile's tokens", async ({ gpu, bound }) => {
  for (const [grid, shape, headDim] of CASES) {
    const tokens = grid[0] * grid[1] * grid[2], dim = HEADS * headDim, of = tileOf(grid, shape);
    // All below zero, so that a maximum begun at 0 shows.
    const x = randn(BATCH * tokens * dim, 1).map((v) => v - 5);
    const layout = upload(gpu, grid, shape), n = layout.tiles.dim(1);
    const gx = gpu.upload(x, [BATCH, tokens, dim]);
    const y = poolTiles(gpu, gx, HEADS, layout);
    const expected = new Float64Array(BATCH * HEADS * n * 3 * headDim);
    for (let b = 0; b < BATCH; b++) {
      for (let h = 0; h < HEADS; h++) {
        for (let tile = 0; tile < n; tile++) {
          const members = [...Array(tokens).keys()].filter((token) => of(token) === tile);
          for (let d = 0; d < headDim; d++) {
            const values = members.map((token) => x[(b * tokens + token) * dim + h * headDim + d]!);
            const at = ((b * HEADS + h) * n + tile) * 3 * headDim + d;
            expected[at] = values.reduce((a, c) => a + c) / values.length;
            expected[at + headDim] = Math.max(...values);
            expected[at + 2 * headDim] = Math.min(...values);
          }
        }
      }
    }
    assertEquals(y.shape, [BATCH * HEADS, n, 3 * headDim]);
    assertClose(await gpu.read(y), expected, Math.min(bound, 2e-6), `${grid} by ${shape}`);
    const only = gpu.upload(Uint32Array.of(2, 0), [2], "u32");
    const some = await gpu.read(poolTiles(gpu, gx, HEADS, layout, only));
    assertClose(ofHeads(some, [2, 0], n * 3 * headDim), ofHeads(expected, [2, 0], n * 3 * headDim), 2e-6, "only");
    assert(ofHeads(some, [1], n * 3 * headDim).every(Number.isNaN), "others are left alone");
    layout.release();
  }
});

/** By definition: half the mean square of each channel of a tile, or its variance over √(head dim). */
function secondOrder(
  x: Float32Array,
  [grid, shape, headDim]: (typeof CASES)[number],
  feature: "square" | "variance",
): Float64Array {
  const { order, tiles, tokens } = tileGrid(grid, shape), dim = HEADS * headDim;
  const y = new Float64Array(BATCH * HEADS * tiles.length * headDim);
  for (let at = 0; at < y.length; at++) {
    const d = at % headDim, { first, count } = tiles[Math.floor(at / headDim) % tiles.length]!;
    const list = Math.floor(at / headDim / tiles.length), b = Math.floor(list / HEADS), h = list % HEADS;
    const column = [...order.subarray(first, first + count)]
      .map((token) => x[(b * tokens + token) * dim + h * headDim + d]!);
    const about = feature === "square" ? 0 : column.reduce((a, c) => a + c) / count;
    const sum = column.reduce((sum, v) => sum + (v - about) ** 2, 0) / count;
    y[at] = feature === "square" ? sum / 2 : sum / Math.sqrt(headDim);
  }
  return y;
}

/** Within 1e-5; of tiles of one token, variances are 0. */
function assertMoments(actual: ArrayLike<number>, expected: ArrayLike<number>, message: string): void {
  if (Array.from(expected).some((x) => x !== 0)) assertClose(actual, expected, 1e-5, message);
  else assert(Array.from(actual).every((x) => x === 0), message);
}

testVariants(
  "tiles' squares and variances, of channels whose mean is a thousand times their deviation",
  async ({ gpu }) => {
    for (const each of CASES) {
      const [grid, shape, headDim] = each, tokens = grid[0] * grid[1] * grid[2];
      const x = randn(BATCH * tokens * HEADS * headDim, 1).map((v, i) => i % 3 === 0 ? Math.fround(1000 + v) : v);
      const layout = upload(gpu, grid, shape), n = layout.tiles.dim(1);
      const gx = gpu.upload(x, [BATCH, tokens, HEADS * headDim]), only = gpu.upload(Uint32Array.of(2, 0), [2], "u32");
      const { q, k } = tileVectors(gpu, { q: gx, k: gx }, { heads: HEADS, layout, second: true, only });
      for (const [feature, made] of [["square", q], ["variance", k]] as const) {
        const expected = ofHeads(secondOrder(x, each, feature), [2, 0], n * headDim), rows = await gpu.read(made);
        const halves = Array.from(
          { length: rows.length / 2 / headDim },
          (_, row) => [...rows.subarray((2 * row + 1) * headDim, (2 * row + 2) * headDim)],
        ).flat();
        assertMoments(ofHeads(halves, [2, 0], n * headDim), expected, `${feature}, ${grid} by ${shape}`);
        const pooled = await gpu.read(poolTiles(gpu, gx, HEADS, layout, undefined, [feature]));
        assertMoments(ofHeads(pooled, [2, 0], n * headDim), expected, `${feature} alone`);
      }
      layout.release();
    }
  },
);

testVariants("tile pooling: a tile without tokens is 0", async ({ gpu }) => {
  const layout = uploadTileLayout(gpu, [{
    order: Uint32Array.of(1, 0),
    tiles: [{ first: 0, count: 2 }, { first: 2, count: 0 }],
  }]);
  const y = await gpu.read(poolTiles(gpu, gpu.upload(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), [1, 2, 4]), 1, layout));
  assertEquals([...y], [3, 4, 5, 6, 5, 6, 7, 8, 1, 2, 3, 4, ...Array(12).fill(0)]);
});

testVariants("matmul: either operand transposed, b for each head or for all, by head, with a sum", async ({ gpu }) => {
  for (const [m, n, k] of [[1, 1, 1], [5, 7, 3], [65, 33, 17], [70, 130, 40]] as const) {
    const count = BATCH * HEADS;
    const added = randn(count * m * (n + 3), 3);
    for (const [transposeA, transposeB, bCount] of [[false, false, 3], [true, false, 6], [false, true, 6]] as const) {
      const a = randn(count * m * k, 1), b = randn(bCount * k * n, 2);
      const expected = new Float64Array(count * m * n);
      for (let i = 0; i < count; i++) {
        for (let r = 0; r < m; r++) {
          for (let c = 0; c < n; c++) {
            let sum = 0;
            for (let l = 0; l < k; l++) {
              sum += a[i * m * k + (transposeA ? l * m + r : r * k + l)]! *
                b[(i % bCount) * k * n + (transposeB ? c * k + l : l * n + c)]!;
            }
            expected[(i * m + r) * n + c] = 0.5 * sum + added[(i * m + r) * (n + 3) + c]!;
          }
        }
      }
      const ga = gpu.upload(a, transposeA ? [count, k, m] : [count, m, k]);
      const gb = gpu.upload(b, transposeB ? [bCount, n, k] : [bCount, k, n]);
      const only = gpu.upload(Uint32Array.of(1), [1], "u32");
      const options = {
        heads: HEADS,
        transposeA,
        transposeB,
        scale: 0.5,
        added: gpu.upload(added, [count, m, n + 3]),
      };
      assertClose(await gpu.read(matmul(gpu, ga, gb, options)), expected, 2e-6, `${[m, n, k, transposeA, transposeB]}`);
      const some = await gpu.read(matmul(gpu, ga, gb, { ...options, only }));
      assertClose(ofHeads(some, [1], m * n), ofHeads(expected, [1], m * n), 2e-6, "only");
      assert(ofHeads(some, [0, 2], m * n).every(Number.isNaN), "others are left alone");
    }
  }
});

testVariants("tile scores: (features·P + mean) of queries times that of keys", async ({ gpu }) => {
  for (const [n, headDim] of [[1, 16], [9, 32], [67, 32], [5, 4], [130, 64]] as const) {
    const [fq, fk] = [1, 2].map((seed) => randn(BATCH * HEADS * n * 3 * headDim, seed)) as [Float32Array, Float32Array];
    // What bf16 can hold, so that one expectation serves both formats.
    const [pq, pk] = [3, 4].map((seed) => toBf16(randn(HEADS * 3 * headDim * headDim, seed, 0.1)));
    const shape = [HEADS, 3 * headDim, headDim];
    const vector = (f: Float32Array, p: Float32Array | undefined, i: number, tile: number) =>
      Array.from({ length: headDim }, (_, d) => {
        const at = (i * n + tile) * 3 * headDim;
        let sum = f[at + d]!;
        for (let c = 0; p && c < 3 * headDim; c++) {
          sum += f[at + c]! * p[((i % HEADS) * 3 * headDim + c) * headDim + d]!;
        }
        return sum;
      });
    const expected = (q: Float32Array | undefined, k: Float32Array | undefined) => {
      const y = new Float64Array(BATCH * HEADS * n * n);
      for (let i = 0; i < BATCH * HEADS; i++) {
        const keys = Array.from({ length: n }, (_, tile) => vector(fk, k, i, tile));
        for (let r = 0; r < n; r++) {
          const query = vector(fq, q, i, r);
          for (let c = 0; c < n; c++) {
            y[(i * n + r) * n + c] = query.reduce((sum, v, d) => sum + v * keys[c]![d]!, 0) / Math.sqrt(headDim);
          }
        }
      }
      return y;
    };
    const gq = gpu.upload(fq, [BATCH * HEADS, n, 3 * headDim]), gk = gpu.upload(fk, [BATCH * HEADS, n, 3 * headDim]);
    const only = gpu.upload(Uint32Array.of(0, 2), [2], "u32");
    for (const dtype of ["none", "f32", "bf16"] as const) {
      // Of features, the scores are those of the mean among them.
      const project = (features: typeof gq, p: typeof pq, only?: typeof gq) => {
        if (dtype === "none") return features;
        const projection = gpu.upload(dtype === "f32" ? p!.values : p!.packed, shape, dtype);
        return projectTiles(gpu, features, projection, HEADS, only);
      };
      const run = async (only?: typeof gq) =>
        await gpu.read(tileScores(
          gpu,
          project(gq, pq, only),
          project(gk, pk, only),
          { heads: HEADS, headDim, only },
        ));
      const reference = dtype === "none" ? expected(undefined, undefined) : expected(pq!.values, pk!.values);
      assertClose(await run(), reference, 2e-6, dtype);
      assertClose(ofHeads(await run(only), [0, 2], n * n), ofHeads(reference, [0, 2], n * n), 2e-6, `${dtype} only`);
    }
  }
});

testVariants("tile scores: wider vectors and the logarithms of rows", async ({ gpu }) => {
  for (const [n, headDim] of [[1, 4], [5, 16], [67, 32]] as const) {
    const counts = Array.from({ length: n }, (_, j) => j % 3 === 2 ? 0 : 1 + j % 7), width = 2 * headDim;
    const [fq, fk] = [1, 2].map((seed) => randn(BATCH * HEADS * n * width, seed)) as [Float32Array, Float32Array];
    const rowsOf = gpu.upload(Uint32Array.from(counts.flatMap((count, j) => [8 * j, count])), [n, 2], "u32");
    const [q, k] = [fq, fk].map((x) => gpu.upload(x, [BATCH * HEADS, n, width]));
    const expected = Float64Array.from({ length: BATCH * HEADS * n * n }, (_, at) => {
      const column = at % n, row = Math.floor(at / n), list = Math.floor(row / n);
      let sum = 0;
      for (let c = 0; c < width; c++) sum += fq[row * width + c]! * fk[(list * n + column) * width + c]!;
      return sum / Math.sqrt(headDim) + Math.log(Math.max(1, counts[column]!));
    });
    for (const heads of [[0, 1, 2], [2, 0]]) {
      const only = heads.length === HEADS ? undefined : gpu.upload(Uint32Array.from(heads), [heads.length], "u32");
      const y = await gpu.read(tileScores(gpu, q!, k!, { heads: HEADS, headDim, width, rowsOf, only }));
      assertClose(ofHeads(y, heads, n * n), ofHeads(expected, heads, n * n), 2e-6, `${n} of ${headDim}`);
    }
  }
});

testVariants("random scores are spread evenly, and repeat with their seed alone", async ({ gpu }) => {
  const of = async (seed: number) => await gpu.read(randomScores(gpu, [2, 50, 50], seed));
  const [one, again, other] = [await of(7), await of(7), await of(8)];
  assertEquals(one, again);
  assert(one.filter((x, i) => x === other[i]).length < 5);
  const mean = one.reduce((a, b) => a + b) / one.length / 2 ** 24;
  assert(Math.abs(mean - 0.5) < 0.02 && one.every((x) => x >= 0 && x < 2 ** 24), `${mean}`);
});

testVariants("tile vectors: pooled and projected, of queries and keys at once", async ({ gpu }) => {
  // Beside the others: more tiles than a workgroup takes, tiles longer and shorter than what is read at once, and heads so
  // wide that threads do not share a tile.
  const others = [[[1, 9, 33], [1, 2, 4], 128], [[5, 5, 5], [2, 5, 3], 4], [[2, 3, 4], [1, 2, 4], 256]] as typeof CASES;
  for (const [grid, shape, headDim] of [...CASES, ...others]) {
    const tokens = grid[0] * grid[1] * grid[2], dim = HEADS * headDim;
    const { order, tiles } = tileGrid(grid, shape), n = tiles.length;
    const [q, k] = [1, 2].map((seed) => randn(BATCH * tokens * dim, seed).map((v) => v - 2)) as [
      Float32Array,
      Float32Array,
    ];
    // What bf16 can hold, so that one expectation serves both formats.
    const made = [3, 4].map((seed) => toBf16(randn(HEADS * 3 * headDim * headDim, seed, 0.1)));
    const vectors = (x: Float32Array, project: Float32Array | undefined) => {
      const y = new Float64Array(BATCH * HEADS * n * headDim);
      for (let list = 0; list < BATCH * HEADS; list++) {
        const b = Math.floor(list / HEADS), h = list % HEADS;
        for (const [tile, { first, count }] of tiles.entries()) {
          const column = (d: number) =>
            [...order.subarray(first, first + count)].map((token) => x[(b * tokens + token) * dim + h * headDim + d]!);
          const channels = Array.from({ length: headDim }, (_, d) => column(d));
          const features = [
            ...channels.map((values) => values.reduce((a, c) => a + c) / count),
            ...channels.map((values) => Math.max(...values)),
            ...channels.map((values) => Math.min(...values)),
          ];
          for (let d = 0; d < headDim; d++) {
            let sum = features[d]!;
            for (let c = 0; project && c < 3 * headDim; c++) {
              sum += features[c]! * project[(h * 3 * headDim + c) * headDim + d]!;
            }
            y[(list * n + tile) * headDim + d] = sum;
          }
        }
      }
      return y;
    };
    const layout = uploadTileLayout(gpu, [{ order, tiles }]);
    const gq = gpu.upload(q, [BATCH, tokens, dim]), gk = gpu.upload(k, [BATCH, tokens, dim]);
    const only = gpu.upload(Uint32Array.of(2, 0), [2], "u32");
    for (const format of ["none", "f32", "bf16"] as const) {
      const shape = [HEADS, 3 * headDim, headDim];
      const [pq, pk] = made.map(({ values, packed }) =>
        format === "none" ? undefined : gpu.upload(format === "f32" ? values : packed, shape, format)
      );
      const projections = pq && pk && { q: pq, k: pk };
      const numbers = made.map(({ values }) => projections && values);
      for (const chosen of [undefined, only]) {
        const made = tileVectors(gpu, { q: gq, k: gk }, { heads: HEADS, layout, projections, only: chosen });
        for (const [side, x, project] of [["q", q, numbers[0]], ["k", k, numbers[1]]] as const) {
          // Means alone may come as the features that they are the first of.
          const width = made[side].dim(2), y = await gpu.read(made[side]);
          const found = Array.from(
            { length: y.length / width },
            (_, row) => [...y.subarray(row * width, row * width + headDim)],
          );
          const heads = chosen ? [2, 0] : [0, 1, 2], each = n * headDim;
          const what = `${grid} by ${shape} of ${headDim}, ${format}, ${side}`;
          assertClose(ofHeads(found.flat(), heads, each), ofHeads(vectors(x, project), heads, each), 2e-6, what);
          if (chosen) assert(ofHeads(found.flat(), [1], each).every(Number.isNaN), "others are left alone");
        }
      }
    }
  }
});

testVariants("tile vectors: a tile without tokens is 0", async ({ gpu }) => {
  const layout = uploadTileLayout(gpu, [{
    order: Uint32Array.of(1, 0),
    tiles: [{ first: 0, count: 2 }, { first: 2, count: 0 }],
  }]);
  const x = gpu.upload(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), [1, 2, 4]);
  const project = gpu.upload(new Float32Array(48).fill(1), [1, 12, 4]);
  const { q, k } = tileVectors(gpu, { q: x, k: x }, { heads: 1, layout, projections: { q: project, k: project } });
  // 3 + 4 + 5 + 6 + 5 + 6 + 7 + 8 + 1 + 2 + 3 + 4 beside the means.
  for (const v of [q, k]) assertEquals([...await gpu.read(v)], [57, 58, 59, 60, 0, 0, 0, 0]);
});

/** The tiles of a row by definition: sorted by score, the own one first, ties by index. */
function bestTiles(scores: Float32Array, own: number, keep: number, empty: readonly number[]): number[] {
  // Own tile, numbers, NaN.
  const kind = (j: number) => j === own ? 2 : Number.isNaN(scores[j]!) ? 0 : 1;
  const better = (a: number, b: number) => kind(a) === 1 && scores[a] !== scores[b] ? scores[b]! - scores[a]! : a - b;
  return [...scores.keys()].filter((j) => !empty.includes(j))
    .sort((a, b) => kind(b) - kind(a) || better(a, b))
    .slice(0, keep).sort((a, b) => a - b);
}

testVariants("tile selection: the best tiles of each row, the own one among them", async ({ gpu }) => {
  // More tiles than a workgroup has threads; one; two to a thread.
  for (const n of [1, 2, 19, 300, 513]) {
    const scores = randn(BATCH * HEADS * n * n, n);
    // Ties, both zeros, both infinities, NaN of either sign.
    const odd = [0.5, 0, -0, Infinity, -Infinity, NaN, -NaN, 1e-42, -1e-42];
    for (let i = 0; i < scores.length; i += 3) scores[i] = odd[Math.floor(i / 3) % odd.length]!;
    // Rows of equal numbers only, and of NaN only.
    scores.subarray(0, n).fill(7);
    if (n > 2) scores.subarray(n, 2 * n).fill(NaN);
    // A subnormal may be taken for 0 where it is stored: it must not tell two scores apart here.
    for (let i = 0; i < scores.length; i++) if (Math.abs(scores[i]!) < 1e-38) scores[i] = 0;
    const empty = n > 2 ? [n - 2] : [];
    let at = 0;
    const tiles = Array.from({ length: n }, (_, i) => {
      const first = at, count = empty.includes(i) ? 0 : 1 + i % 3;
      at += count;
      return { first, count };
    });
    const keep = Array.from({ length: n }, (_, row) => Math.min(n - empty.length, 1 + row % (n < 20 ? n : 37)));
    const layout = uploadTileLayout(gpu, [{ order: Uint32Array.from({ length: at }, (_, i) => i), tiles }]);
    const rows = uploadTileBudget(gpu, [{ tiles, keep }], 64);
    const expected: number[] = [];
    for (let i = 0; i < BATCH * HEADS; i++) {
      for (let row = 0; row < n; row++) {
        const line = scores.subarray((i * n + row) * n, (i * n + row + 1) * n);
        // A row without queries takes what it is given; nobody looks.
        for (const tile of bestTiles(line, empty.includes(row) ? -1 : row, keep[row]!, empty)) {
          expected.push(tiles[tile]!.first, tiles[tile]!.count);
        }
      }
    }
    const gs = gpu.upload(scores, [BATCH * HEADS, n, n]);
    const read = async (only?: typeof gs) =>
      new Uint32Array(await gpu.readBytes(selectTiles(gpu, gs, layout, rows, { heads: HEADS, only })));
    assertEquals([...await read()], expected, `${n} tiles`);
    const only = gpu.upload(Uint32Array.of(1), [1], "u32");
    assertEquals(ofHeads(await read(only), [1], 2 * rows.runs), ofHeads(expected, [1], 2 * rows.runs));
  }
});

testVariants("tile selection: thousands of tiles, equal scores, with subgroups and without", async ({ gpu }) => {
  const { device, settings } = gpu, { description } = settings;
  const features = description.features.filter((name) => name !== "subgroups");
  const without = new Gpu(device, { ...settings, description: { ...description, features } });
  without.poison = true;
  for (const [n, levels] of [[64, 1], [1025, 40], [2100, 1e9]] as const) {
    const scores = randn(n * n, n).map((x) => Math.round(x * levels) / levels);
    const tiles = Array.from({ length: n }, (_, i) => ({ first: i, count: 1 }));
    const keep = Array.from({ length: n }, (_, row) => row === 1 ? n : 1 + (row * 7) % 90 % n);
    const expected = (ownTile: boolean, always: number) =>
      keep.flatMap((count, row) => {
        const line = scores.slice(row * n, (row + 1) * n).fill(Infinity, 0, always);
        return bestTiles(line, ownTile ? row : -1, count, []).flatMap((tile) => [tile, 1]);
      });
    for (
      const [on, ownTile, always] of [[gpu, true, 0], [without, true, 5], [gpu, false, 3], [gpu, true, 3]] as const
    ) {
      const layout = uploadTileLayout(on, [{ order: Uint32Array.from({ length: n }, (_, i) => i), tiles }]);
      const rows = uploadTileBudget(on, [{ tiles, keep }], 64), gs = on.upload(scores, [1, n, n]);
      const found = new Uint32Array(
        await on.readBytes(selectTiles(on, gs, layout, rows, { heads: 1, ownTile, always })),
      );
      const wanted = expected(ownTile, always);
      assert(found.length === wanted.length && found.every((x, i) => x === wanted[i]), `${n} tiles, own ${ownTile}`);
    }
  }
});

testVariants("tile selection: where too few tiles have tokens, the runs left over are empty", async ({ gpu }) => {
  const tiles = [{ first: 0, count: 2 }, { first: 2, count: 0 }, { first: 2, count: 1 }];
  const layout = uploadTileLayout(gpu, [{ order: Uint32Array.of(0, 1, 2), tiles }]);
  const rows = uploadTileBudget(gpu, [{ tiles, keep: [3, 1, 2] }], 64);
  const scores = gpu.upload(new Float32Array(9), [1, 3, 3]);
  const runs = new Uint32Array(await gpu.readBytes(selectTiles(gpu, scores, layout, rows, { heads: 1 })));
  assertEquals([...runs.subarray(0, 6)], [0, 2, 2, 0, 2, 1]);
  assertEquals([...runs.subarray(8)], [0, 2, 2, 1]);
});

testVariants("attention over selected tiles is attention over those pairs", async ({ gpu, bound }) => {
  for (const [grid, shape, headDim] of CASES) {
    const tokens = grid[0] * grid[1] * grid[2], dim = HEADS * headDim, of = tileOf(grid, shape);
    const { order, tiles, capacity } = tileGrid(grid, shape), n = tiles.length;
    const keep = budget(0.4, { tokens, capacity, tiles });
    const layout = uploadTileLayout(gpu, [{ order, tiles }]);
    const rows = uploadTileBudget(gpu, [{ tiles, keep }], blockRows(gpu, headDim));
    const scores = randn(BATCH * HEADS * n * n, 5);
    const [q, k, v] = [1, 2, 3].map((seed) => randn(BATCH * tokens * dim, seed)) as Float32Array[];
    const [gq, gk, gv] = [q!, k!, v!].map((x) => gpu.upload(x, [BATCH, tokens, dim]));
    const runs = selectTiles(gpu, gpu.upload(scores, [BATCH * HEADS, n, n]), layout, rows, { heads: HEADS });
    const plan = { order: layout.order, queries: { blocks: rows.blocks, runs } };
    const y = await gpu.read(attention(gpu, gq!, gk!, gv!, { heads: HEADS, plan }));
    const seen = Array.from(
      { length: BATCH * HEADS * n },
      (_, row) => new Set(bestTiles(scores.subarray(row * n, (row + 1) * n), row % n, keep[row % n]!, [])),
    );
    const expected = attend(q!, k!, v!, {
      batch: BATCH,
      queries: tokens,
      keys: tokens,
      heads: HEADS,
      headDim,
      sees: (b, h, i, j) => seen[(b * HEADS + h) * n + of(i)]!.has(of(j)),
    });
    assertClose(y, expected, bound, `${grid} by ${shape}`);
  }
});

testVariants("many kinds of heads with as many tiles as there may be have one table", ({ gpu }) => {
  const tiles = Array.from({ length: MAX_TILES }, (_, first) => ({ first, count: 1 }));
  const kind = { order: Uint32Array.from(tiles, ({ first }) => first), tiles };
  gpu.scope(() => {
    const layout = uploadTileLayout(gpu, Array.from({ length: 64 }, () => kind));
    assertEquals([layout.tiles.shape, layout.capacity], [[64, MAX_TILES, 2], 1]);
  });
  return Promise.resolve();
}, plainOnly);
