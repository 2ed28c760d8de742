import type { Gpu } from "../../../gpu/gpu.ts";
import { headOfKind } from "../../../gpu/kernels/chosen_heads.ts";
import { attentionOutput } from "../../../model/attention/output.ts";
import { type TokenLayout, validTokens } from "../../../model/attention/layout.ts";
import { product } from "../../../model/attention/grid.ts";
import { TileAttention } from "../../../model/veda/tile_attention.ts";
import { type TileKind, tileKind } from "../../../model/veda/tile_kind.ts";
import { assert, assertEquals } from "@std/assert";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { attend } from "../../reference_attention.ts";

const BATCH = 2;

/** What is computed: which kind each head is of, the heads to compute in their order. */
interface Case {
  readonly layout: TokenLayout;
  readonly headDim: number;
  readonly kinds: readonly TileKind[];
  /** The kind of each head; undefined where it is not computed. */
  readonly heads: readonly (number | undefined)[];
}

const LAYOUT = { grid: [3, 5, 6], kept: 0 } as const;

function caseOf(
  headDim: number,
  heads: Case["heads"],
  kinds: readonly (readonly [readonly [number, number, number], number])[],
  layout: TokenLayout = LAYOUT,
): Case {
  return { layout, headDim, heads, kinds: kinds.map(([shape, keep]) => tileKind(layout, shape, keep)) };
}

/** Partial tiles at all borders; kept tokens and padding; several kinds, one with fewer tiles; some heads; one head. */
const CASES: readonly Case[] = [
  caseOf(32, [0, 0, 0], [[[2, 2, 4], 0.3]]),
  caseOf(16, [1, undefined, 0, 2], [[[1, 4, 4], 0.2], [[2, 4, 2], 0.5], [[4, 2, 2], 0.1]], {
    ...{ ...LAYOUT, kept: 7, length: 5 },
  }),
  caseOf(64, [0], [[[1, 4, 4], 0.25]], { ...LAYOUT, kept: 70, length: 69 }),
  caseOf(128, [undefined, 0], [[[2, 4, 4], 0.3]], { ...LAYOUT, kept: 4, length: 0 }),
];

type Numbers = readonly Float32Array[];

function operands({ layout, headDim, heads }: Case): Numbers {
  const size = BATCH * (product(layout.grid) + layout.kept) * heads.length * headDim;
  return [1, 2, 3].map((seed) => randn(size, seed));
}

/** Attention over tiles that are chosen at random. Padding is NaN. */
async function onGpu(gpu: Gpu, { layout, headDim, kinds, heads }: Case, numbers: Numbers, rest = true) {
  const all = product(layout.grid) + layout.kept, dim = heads.length * headDim;
  using pattern = new TileAttention(gpu, { heads: heads.length, headDim }, layout, kinds);
  const [q, k, v] = numbers.map((x) =>
    gpu.upload(x.map((y, i) => Math.floor(i / dim) % all < validTokens(layout) ? y : NaN), [BATCH, all, dim])
  ) as [never, never, never];
  const ids = heads.flatMap((kind, head) => kind === undefined ? [] : [headOfKind(head, kind)]);
  const only = gpu.upload(Uint32Array.from(ids), [ids.length], "u32");
  const runs = pattern.select(pattern.randomScores(BATCH, 5), only);
  const into = attentionOutput(gpu, q, layout);
  const y = await gpu.read(pattern.attend(q, k, v, runs, { only, into, rest }));
  return { y, runs: new Uint32Array(await gpu.readBytes(runs)), perHead: runs.dim(1) };
}

/** The same by definition, given the runs. Heads that are not computed are NaN. */
function reference(
  { layout, headDim, kinds, heads }: Case,
  [q, k, v]: Numbers,
  { runs, perHead }: { runs: Uint32Array; perHead: number },
): Float64Array {
  const tokens = product(layout.grid), all = tokens + layout.kept, count = heads.length, root = Math.sqrt(headDim);
  const row = (x: Float32Array, b: number, token: number, h: number) =>
    x.subarray(((b * all + token) * count + h) * headDim, ((b * all + token) * count + h + 1) * headDim);
  const dot = (a: ArrayLike<number>, c: ArrayLike<number>) => {
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += a[d]! * c[d]!;
    return sum;
  };
  const y = new Float64Array(BATCH * all * count * headDim).fill(NaN);
  for (let list = 0; list < BATCH * count; list++) {
    const b = Math.floor(list / count), h = list % count, kind = kinds[heads[h] ?? 0]!;
    const to = (token: number) =>
      y.subarray(((b * all + token) * count + h) * headDim, ((b * all + token) * count + h + 1) * headDim);
    for (let token = validTokens(layout); token < all; token++) to(token).fill(0);
    if (heads[h] === undefined) continue;
    const { tiles, order } = kind.tiled;
    const tokensOf = tiles.map(({ first, count }) => [...order.subarray(first, first + count)]);
    const means = [k!, v!].map((x) =>
      tokensOf.map((tile) =>
        Float64Array.from(
          { length: headDim },
          (_, d) => tile.reduce((sum, token) => sum + row(x, b, token, h)[d]!, 0) / tile.length,
        )
      )
    ) as [Float64Array[], Float64Array[]];
    const covariance = Array.from({ length: headDim }, (_, d) =>
      Float64Array.from({ length: headDim }, (_, e) => {
        const sum = tokensOf.reduce((sum, tile, j) =>
          sum + tile.reduce((sum, token) =>
            sum + (row(v!, b, token, h)[d]! - means[1][j]![d]!) * (row(k!, b, token, h)[e]! - means[0][j]![e]!), 0), 0);
        return sum / tokens;
      }));
    const kept = Array.from({ length: validTokens(layout) - tokens }, (_, i) => tokens + i);
    let at = list * perHead;
    const sees = (queries: readonly number[], chosen: ReadonlySet<number>) => {
      const keys = [...tokensOf.flatMap((tile, j) => chosen.has(j) ? tile : []), ...kept];
      for (const token of queries) {
        const query = row(q!, b, token, h);
        const seen = keys.map((key) => [dot(query, row(k!, b, key, h)) / root, row(v!, b, key, h)] as const);
        const rest = tokensOf.flatMap((tile, j) => {
          if (chosen.has(j)) return [];
          const value = means[1][j]!.map((mean, d) => mean + dot(covariance[d]!, query) / root);
          return [[dot(query, means[0][j]!) / root + Math.log(tile.length), value] as const];
        });
        const pairs = [...seen, ...rest], top = Math.max(...pairs.map(([score]) => score));
        const sum = pairs.reduce((sum, [score]) => sum + Math.exp(score - top), 0);
        to(token).fill(0);
        for (const [score, value] of pairs) {
          for (let d = 0; d < headDim; d++) to(token)[d]! += Math.exp(score - top) / sum * value[d]!;
        }
      }
    };
    const own = kept.length > 0 ? 1 : 0;
    for (const [i, queries] of tokensOf.entries()) {
      const firsts = [...Array(kind.keep[i]!).keys()].map((r) => runs[2 * (at + r)]!);
      sees(queries, new Set(firsts.map((first) => tiles.findIndex((tile) => tile.first === first))));
      at += kind.keep[i]! + own;
    }
    sees(kept, new Set(tiles.keys()));
  }
  return y;
}

/** The numbers of both where the second is a number; elsewhere both are none. */
function assertSame(actual: ArrayLike<number>, expected: Float64Array, bound: number, message: string): void {
  const there = [...expected.keys()].filter((i) => !Number.isNaN(expected[i]));
  assertClose(there.map((i) => actual[i]!), there.map((i) => expected[i]!), bound, message);
  const untouched = [...expected.keys()].filter((i) => Number.isNaN(expected[i]));
  assert(untouched.every((i) => Number.isNaN(actual[i])), `${message}: other heads are left alone`);
}

testVariants("the rest of tiles: one key for each tile that is left out, by definition", async ({ gpu, bound }) => {
  for (const [i, each] of CASES.entries()) {
    const numbers = operands(each), made = await onGpu(gpu, each, numbers);
    assertSame(made.y, reference(each, numbers, made), 2 * bound, `case ${i}`);
  }
});

testVariants("the rest of tiles: what is constant within each tile is full attention's", async ({ gpu, bound }) => {
  const [each] = CASES as [Case], { headDim, heads, layout } = each, tokens = product(layout.grid);
  const [q, ...others] = operands(each) as [Float32Array, Float32Array, Float32Array];
  const dim = heads.length * headDim, { tiles, order } = each.kinds[0]!.tiled;
  const [k, v] = others.map((x) => {
    const constant = x.slice();
    for (let b = 0; b < BATCH; b++) {
      const row = (slot: number) => (b * tokens + order[slot]!) * dim;
      for (const { first, count } of tiles) {
        const of = x.slice(row(first), row(first) + dim);
        for (let slot = first; slot < first + count; slot++) constant.set(of, row(slot));
      }
    }
    return constant;
  }) as [Float32Array, Float32Array];
  const sizes = { batch: BATCH, queries: tokens, keys: tokens, heads: heads.length, headDim };
  assertClose((await onGpu(gpu, each, [q, k, v])).y, attend(q, k, v, sizes), 2 * bound);
  const same = v.map((_, i) => v[i % dim]!);
  assertClose((await onGpu(gpu, each, [q, others[0]!, same])).y, same, 2 * bound, "the same value for all tokens");
});

testVariants("the rest of tiles: nothing, where all tiles are kept", async ({ gpu }) => {
  const each = caseOf(32, [0, 1], [[[2, 2, 4], 1], [[1, 4, 4], 1]]), numbers = operands(each);
  assertEquals((await onGpu(gpu, each, numbers)).y, (await onGpu(gpu, each, numbers, false)).y);
  // Of two kinds, one keeps all.
  const some = caseOf(32, [0, 1], [[[2, 2, 4], 1], [[1, 4, 4], 0.3]]);
  const [y, without] = [await onGpu(gpu, some, numbers), await onGpu(gpu, some, numbers, false)].map(({ y }) => y);
  const of = (y: ArrayLike<number>, head: number) => Array.from(y).filter((_, i) => Math.floor(i / 32) % 2 === head);
  if (gpu.settings.precision === "f32") assertEquals(of(y!, 0), of(without!, 0));
  assert(of(y!, 1).some((x, i) => x !== of(without!, 1)[i]));
});
