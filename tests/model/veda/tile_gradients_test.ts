import { assert } from "@std/assert";
import type { Tensor } from "../../../gpu/tensor.ts";
import { FullAttention } from "../../../model/attention/full.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import { type TokenLayout, validTokens } from "../../../model/attention/layout.ts";
import { tileGrid } from "../../../model/attention/tiles.ts";
import { tileGradients } from "../../../model/veda/tile_gradients.ts";
import { MASS_TERMS, NO_TERMS, type ScoreTerms } from "../../../model/veda/scorer.ts";
import { TilePattern } from "../../../model/veda/tile_pattern.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";

const GRID: Grid = [2, 4, 5], TILE: Grid = [1, 2, 4], TOKENS = 40, DIM = 16;

/** KL of a layer with one head by definition: the scores of tiles against the heat of attention to all valid tokens. */
function divergence([q, k, p, r]: readonly Float32Array[], layout: TokenLayout, terms: ScoreTerms): number {
  const { tiles, order } = tileGrid(GRID, TILE), valid = validTokens(layout);
  const row = (x: Float32Array, token: number) => Array.from(x.subarray(token * DIM, (token + 1) * DIM));
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, d) => sum + x * b[d]!, 0);
  const own = tiles.map(({ first, count }) => [...order.subarray(first, first + count)]);
  const heat = own.map(() => new Float64Array(tiles.length));
  for (const [i, queries] of own.entries()) {
    for (const query of queries) {
      const e = Array.from({ length: valid }, (_, key) => Math.exp(dot(row(q!, query), row(k!, key)) / 4));
      const sum = e.reduce((a, b) => a + b);
      for (const [j, keys] of own.entries()) for (const key of keys) heat[i]![j]! += e[key]! / sum;
    }
  }
  const vectors = (x: Float32Array, projection: Float32Array) =>
    own.map((tokens) => {
      const each = (of: (column: number[]) => number) =>
        Array.from({ length: DIM }, (_, d) => of(tokens.map((token) => x[token * DIM + d]!)));
      const mean = each((column) => column.reduce((a, b) => a + b) / column.length);
      const features = [...mean, ...each((column) => Math.max(...column)), ...each((column) => Math.min(...column))];
      return mean.map((m, d) => features.reduce((sum, f, c) => sum + f * projection[c * DIM + d]!, m));
    });
  const qs = vectors(q!, p!), ks = vectors(k!, r!);
  const moments = (x: Float32Array, tokens: readonly number[], power: (y: number, mean: number) => number) =>
    Array.from({ length: DIM }, (_, d) => {
      const column = tokens.map((token) => x[token * DIM + d]!), mean = column.reduce((a, b) => a + b) / column.length;
      return column.reduce((sum, y) => sum + power(y, mean), 0) / column.length;
    });
  const added = (query: readonly number[], key: readonly number[]) =>
    (terms.count ? Math.log(key.length) : 0) +
    (terms.second
      ? dot(moments(q!, query, (y) => y * y), moments(k!, key, (y, mean) => (y - mean) ** 2)) / (2 * DIM)
      : 0);
  let sum = 0;
  for (const [i, vector] of qs.entries()) {
    const scores = ks.map((key, j) => dot(vector, key) / 4 + added(own[i]!, own[j]!)),
      all = heat[i]!.reduce((a, b) => a + b);
    const lse = Math.log(scores.reduce((total, s) => total + Math.exp(s), 0));
    for (const [j, s] of scores.entries()) {
      const teacher = heat[i]![j]! / all;
      sum += teacher * (Math.log(teacher) - (s - lse));
    }
  }
  return sum;
}

testVariants("scorers learn the tiles of the grid, whatever is kept behind it", async ({ gpu, bound }) => {
  for (
    const [kept, terms] of [
      [{ kept: 0 }, NO_TERMS],
      [{ kept: 0 }, MASS_TERMS],
      [{ kept: 6, length: 0 }, MASS_TERMS],
      [{ kept: 6, length: 4 }, { count: true, second: false }],
      [{ kept: 70 }, NO_TERMS],
    ] as const
  ) {
    const layout = { grid: GRID, ...kept }, all = TOKENS + layout.kept;
    const numbers = [
      randn(all * DIM, 1),
      randn(all * DIM, 2),
      randn(3 * DIM * DIM, 3, 0.1),
      randn(3 * DIM * DIM, 4, 0.1),
    ];
    using attention = new FullAttention(gpu, { heads: 1, headDim: DIM }, layout);
    using pattern = new TilePattern(gpu, { heads: 1, headDim: DIM }, layout, TILE, 0.5);
    const figures = gpu.scope(() => {
      const [q, k] = numbers.slice(0, 2).map((x) => x.map((y, i) => i < validTokens(layout) * DIM ? y : NaN))
        .map((x) => gpu.upload(x, [1, all, DIM])) as [Tensor, Tensor];
      const [p, r] = numbers.slice(2).map((x) => gpu.upload(x, [1, 3 * DIM, DIM])) as [Tensor, Tensor];
      const lse = gpu.tensor([1, all, 1]), gradients = { q: gpu.tensor(p.shape), k: gpu.tensor(p.shape) };
      attention.attend(q, k, q, { lse });
      const shape = { layers: 1, heads: 1, headDim: DIM };
      const scores = { projections: { q: p, k: r }, terms, target: "sum" as const, loss: "kl" as const };
      const found = tileGradients(gpu, { q, k, lse }, shape, pattern, { only: undefined }, scores, gradients);
      return [found.loss, found.agreement, gradients.q, gradients.k];
    });
    const [sum, , ...gradients] = await Promise.all(figures.map((tensor) => gpu.read(tensor)));
    assertClose(sum!, [divergence(numbers, layout, terms)], 10 * bound, JSON.stringify([kept, terms]));
    assert(gradients.every((gradient) => gradient.every(Number.isFinite)), "gradients are finite");
    for (const tensor of figures) gpu.release(tensor);
  }
});
