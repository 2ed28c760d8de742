import type { Gpu } from "../../../gpu/gpu.ts";
import { attention } from "../../../gpu/ops/attention.ts";
import { headDots } from "../../../gpu/ops/head_dots.ts";
import { mixHeads } from "../../../gpu/ops/mix_heads.ts";
import { sumRows } from "../../../gpu/ops/sum_rows.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { VortaAttention } from "../../../model/vorta/attention.ts";
import { BRANCHES } from "../../../model/vorta/branch.ts";
import { coreSet } from "../../../model/vorta/core_set.ts";
import { defaultSettings, PAPER_SETTINGS, type VortaSettings } from "../../../model/vorta/settings.ts";
import { slidingTiles } from "../../../model/vorta/sliding_tile.ts";
import { type Grid, product } from "../../../model/attention/grid.ts";
import { type HeadShape, type TokenLayout, validTokens } from "../../../model/attention/layout.ts";
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { gradientBound, gradientsOnGpu } from "../../gradients.ts";
import { attend, attendBack, type Reference } from "../../reference_attention.ts";

/** The settings, and what belongs to the model's family. */
type Settings = VortaSettings & Pick<HeadShape, "ownKeys">;

/**
 * Grids with whole tiles and buckets, with cut ones, of one token, of one row, smaller than a tile or a bucket. Behind
 * some of them are kept tokens: some valid, none, or all.
 */
const CASES: readonly (readonly [Grid, Settings, Omit<TokenLayout, "grid">?])[] = [
  [[4, 4, 6], { tile: [2, 2, 2], window: [3, 3, 3], bucket: [2, 2, 2], rate: 0.5 }],
  [[5, 7, 9], { tile: [2, 3, 4], window: [3, 1, 3], bucket: [2, 3, 2], rate: 0.5 }],
  [[3, 5, 7], { tile: [1, 2, 3], window: [1, 3, 2], bucket: [1, 2, 3], rate: 0.3 }],
  [[1, 1, 1], { tile: [2, 2, 2], window: [3, 3, 3], bucket: [2, 2, 2], rate: 0.5 }],
  [[2, 9, 8], { tile: [5, 9, 8], window: [3, 3, 3], bucket: [2, 3, 2], rate: 0.9 }],
  [[5, 4, 6], { tile: [2, 2, 2], window: [1, 3, 1], bucket: [2, 2, 2], rate: 0.5 }, { kept: 0, known: 1 }],
  [[1, 2, 11], { tile: [1, 1, 2], window: [1, 1, 3], bucket: [1, 1, 1], rate: 0 }],
  [[4, 4, 6], { tile: [2, 2, 2], window: [3, 1, 1], bucket: [2, 2, 2], rate: 0.5, ownKeys: true }, {
    kept: 7,
    length: 5,
  }],
  [[3, 5, 7], { tile: [1, 2, 3], window: [1, 3, 2], bucket: [1, 2, 3], rate: 0.3, ownKeys: true }, {
    kept: 3,
    length: 0,
  }],
  [[5, 4, 3], { tile: [2, 3, 2], window: [3, 1, 3], bucket: [2, 2, 2], rate: 0.5 }, { kept: 70, length: 69 }],
  [[2, 2, 2], { tile: [2, 2, 2], window: [1, 1, 1], bucket: [2, 2, 4], rate: 0.5 }, { kept: 1 }],
];
const layoutOf = ([grid, , kept = { kept: 0 }]: (typeof CASES)[number]): TokenLayout => ({ grid, ...kept });
const BATCH = 2, HEADS = 3;

/** Whether a query's tile sees a key's: the window's centre is clamped so that the window stays whole. */
function slides(grid: Grid, { tile, window }: VortaSettings, i: number, j: number): boolean {
  const place = (
    token: number,
  ) => [Math.floor(token / (grid[1] * grid[2])), Math.floor(token / grid[2]) % grid[1], token % grid[2]];
  const from = place(i), to = place(j);
  return [0, 1, 2].every((axis) => {
    const tiles = Math.ceil(grid[axis]! / tile[axis]!), reach = Math.floor(window[axis]! / 2);
    const own = Math.floor(from[axis]! / tile[axis]!), other = Math.floor(to[axis]! / tile[axis]!);
    const centre = Math.min(Math.max(own, reach), Math.max(tiles - 1 - reach, 0));
    return tiles <= 2 * reach + 1 || Math.abs(centre - other) <= reach;
  });
}

/** The first tokens, which all see: those of tiles with a known frame. */
function tokensSeen({ grid, known = 0 }: TokenLayout, { tile }: VortaSettings): number {
  return Math.ceil(known / tile[0]) * tile[0] * grid[1] * grid[2];
}

/** The token whose output each token takes, by definition: [batch, heads, tokens]. */
function sources(
  q: Float32Array,
  { grid, kept, known = 0 }: TokenLayout,
  settings: VortaSettings,
  headDim: number,
): number[][][] {
  const [frames, rows, columns] = grid, tokens = product(grid) + kept;
  const { bucket: [f, h, w], rate } = settings;
  const vector = (b: number, head: number, token: number) =>
    q.subarray(((b * tokens + token) * HEADS + head) * headDim, ((b * tokens + token) * HEADS + head + 1) * headDim);
  const cosine = (a: Float32Array, c: Float32Array) => {
    let dot = 0, aa = 0, cc = 0;
    for (let d = 0; d < headDim; d++) [dot, aa, cc] = [dot + a[d]! * c[d]!, aa + a[d]! ** 2, cc + c[d]! ** 2];
    return dot / Math.sqrt(aa * cc);
  };
  return Array.from({ length: BATCH }, (_, b) =>
    Array.from({ length: HEADS }, (_, head) => {
      const source = Array.from({ length: tokens }, (_, token) => token);
      for (let i = known; i + f <= frames; i += f) {
        for (let j = 0; j + h <= rows; j += h) {
          for (let k = 0; k + w <= columns; k += w) {
            const members: number[] = [];
            for (let x = 0; x < f * h * w; x++) {
              const [di, dj, dk] = [Math.floor(x / (h * w)), Math.floor(x / w) % h, x % w];
              members.push(((i + di) * rows + j + dj) * columns + k + dk);
            }
            const centre = ((i + (f >> 1)) * rows + j + (h >> 1)) * columns + k + (w >> 1);
            const others = members.filter((token) => token !== centre).sort((a, c) =>
              cosine(vector(b, head, a), vector(b, head, centre)) - cosine(vector(b, head, c), vector(b, head, centre))
            );
            for (const token of others.slice(Math.floor(f * h * w * (1 - rate)) - 1)) source[token] = centre;
          }
        }
      }
      return source;
    }));
}

/** Each branch by its definition, with its gradients. */
function reference(
  branch: (typeof BRANCHES)[number],
  [q, k, v, dy]: readonly Float32Array[],
  layout: TokenLayout,
  settings: Settings,
  headDim: number,
) {
  const { grid, kept } = layout, inGrid = product(grid), tokens = inGrid + kept, valid = validTokens(layout);
  const at = (b: number, h: number, token: number) => ((b * tokens + token) * HEADS + h) * headDim;
  const own = (x: Float32Array) =>
    branch === "coreset"
      ? sources(x, layout, settings, headDim)
      : Array.from({ length: BATCH }, () => Array.from({ length: HEADS }, () => [...Array(tokens).keys()]));
  const source = own(q!), keySource = settings.ownKeys ? own(k!) : source;
  const sees = (b: number, h: number, i: number, j: number) =>
    j < valid && keySource[b]![h]![j] === j &&
    (branch !== "sliding" || Math.max(i, j) >= inGrid || j < tokensSeen(layout, settings) ||
      slides(grid, settings, i, j));
  const r: Reference = { batch: BATCH, queries: tokens, keys: tokens, heads: HEADS, headDim, sees };
  const y = attend(q!, k!, v!, r), collected = new Float64Array(dy!.length);
  for (let b = 0; b < BATCH; b++) {
    for (let h = 0; h < HEADS; h++) {
      for (let i = 0; i < tokens; i++) {
        const from = source[b]![h]![i]!;
        for (let d = 0; d < headDim; d++) {
          y[at(b, h, i) + d] = i < valid ? y[at(b, h, from) + d]! : 0;
          if (i < valid) collected[at(b, h, from) + d]! += dy![at(b, h, i) + d]!;
        }
      }
    }
  }
  // A token that was dropped gets no output of its own, so its gradient is collected to 0 and it adds nothing.
  return { y, ...attendBack(q!, k!, v!, collected, r) };
}

/** Numbers for the GPU, where padding is NaN: nothing may read it. */
function withoutPadding(numbers: readonly Float32Array[], layout: TokenLayout): Float32Array[] {
  const tokens = product(layout.grid) + layout.kept, valid = validTokens(layout);
  return numbers.map((x) =>
    x.map((value, i) => Math.floor(i / (x.length / BATCH / tokens)) % tokens < valid ? value : NaN)
  );
}

/** Random q, k, v and an outer gradient. */
function operands(tokens: number, headDim: number): Float32Array[] {
  return [1, 2, 3, 4].map((seed) => randn(BATCH * tokens * HEADS * headDim, seed));
}

for (const one of CASES) {
  const [grid, settings] = one, layout = layoutOf(one);
  const tokens = product(grid) + layout.kept;
  const headDim = tokens > 200 ? 16 : 32, dim = HEADS * headDim;
  const name = `over ${grid.join("×")} tokens` +
    (layout.kept > 0 ? ` and ${layout.length ?? "all"} of ${layout.kept}` : "");

  testVariants(`VORTA's branches ${name}, by definition`, async ({ gpu, bound }) => {
    const numbers = operands(tokens, headDim);
    const [q, k, v] = uploadAll(gpu, withoutPadding(numbers.slice(0, 3), layout), [BATCH, tokens, dim]);
    using vorta = new VortaAttention(gpu, { heads: HEADS, headDim, ownKeys: settings.ownKeys }, layout, settings);
    for (const branch of BRANCHES) {
      const y = vorta.single(branch)(q!, k!, v!, 0);
      assertClose(await gpu.read(y), reference(branch, numbers, layout, settings, headDim).y, bound, branch);
      gpu.release(y);
    }
  });

  testVariants(`VORTA's weighted branches ${name}, backwards`, async (variant) => {
    // The backward pass takes what the forward pass gave, which is rounded to f16: which tokens are kept may differ, too.
    const { gpu } = variant;
    const numbers = operands(tokens, headDim), dy = numbers[3]!;
    const inputs = uploadAll(gpu, withoutPadding(numbers.slice(0, 3), layout), [BATCH, tokens, dim]);
    const shares = BRANCHES.map((_, i) => randn(BATCH * HEADS, 10 + i));
    const weights = uploadAll(gpu, shares, [BATCH, HEADS]);
    using vorta = new VortaAttention(gpu, { heads: HEADS, headDim, ownKeys: settings.ownKeys }, layout, settings);
    const [q, k, v] = inputs as [Tensor, Tensor, Tensor];
    const used = gpu.memory.used;
    const found = await gradientsOnGpu(gpu, [q, k, v, ...weights], dy, () => vorta.weighted([weights])(q, k, v, 0));
    assertEquals(found.length, 6);
    assert(gpu.memory.used > used, "the gradients themselves are the caller's");
    const size = BATCH * tokens * dim;
    const sums = [new Float64Array(size), new Float64Array(size), new Float64Array(size)];
    for (const [i, branch] of BRANCHES.entries()) {
      // A branch's share scales its outer gradient, head by head.
      const share = (at: number) =>
        shares[i]![Math.floor(at / (tokens * dim)) * HEADS + Math.floor(at % dim / headDim)]!;
      const scaled = dy.map((g, at) => g * share(at));
      const of = reference(branch, [...numbers.slice(0, 3), scaled], layout, settings, headDim);
      for (const [j, gradient] of [of.dq, of.dk, of.dv].entries()) gradient.forEach((g, at) => sums[j]![at]! += g);
      const dWeight = new Float64Array(BATCH * HEADS);
      of.y.forEach((y, at) =>
        dWeight[Math.floor(at / (tokens * dim)) * HEADS + Math.floor(at % dim / headDim)]! += y * dy[at]!
      );
      assertClose(found[3 + i]!, dWeight, gradientBound(variant), `${branch}'s weights`);
    }
    // With one token softmax is 1 and only v has a gradient.
    const names = tokens > 1 ? ["q", "k", "v"] : ["", "", "v"];
    for (const [j, name] of names.entries()) if (name) assertClose(found[j]!, sums[j]!, gradientBound(variant), name);
  }, ({ gpu }) => !gpu.f16);
}

testVariants("dense attention, backwards, to keys of another number", async (variant) => {
  const { gpu } = variant;
  for (const [queries, keys, headDim] of [[70, 130, 32], [1, 1, 16], [67, 3, 128], [5, 66, 16]] as const) {
    const r: Reference = { batch: BATCH, queries, keys, heads: HEADS, headDim };
    const dim = HEADS * headDim;
    const q = randn(BATCH * queries * dim, 1), k = randn(BATCH * keys * dim, 2), v = randn(BATCH * keys * dim, 3);
    const dy = randn(q.length, 4);
    const ref = attendBack(q, k, v, dy, r);
    if (queries === 5) {
      // The reference itself: its derivative along a direction against a central difference.
      const along = [randn(q.length, 5), randn(k.length, 6), randn(v.length, 7)] as const, step = 1e-4;
      const loss = (by: number) => {
        const moved = [q, k, v].map((x, i) => Float64Array.from(x, (value, at) => value + by * along[i]![at]!));
        return attend(moved[0]!, moved[1]!, moved[2]!, r).reduce((sum, y, i) => sum + y * dy[i]!, 0);
      };
      const slope = [ref.dq, ref.dk, ref.dv]
        .reduce((sum, g, i) => sum + g.reduce((s, x, at) => s + x * along[i]![at]!, 0), 0);
      assertClose([slope], [(loss(step) - loss(-step)) / (2 * step)], 1e-6, "the reference");
    }
    const [tq] = uploadAll(gpu, [q], [BATCH, queries, dim]), [tk, tv] = uploadAll(gpu, [k, v], [BATCH, keys, dim]);
    const inputs = [tq!, tk!, tv!];
    const found = await gradientsOnGpu(gpu, inputs, dy, () => attention(gpu, tq!, tk!, tv!, { heads: HEADS }));
    // Operands of the forward pass are rounded to f16, and its sums are used by the backward pass.
    const bound = gradientBound(variant);
    const only = keys === 1 ? [[found[2]!, ref.dv]] as const : [[found[0]!, ref.dq], [found[1]!, ref.dk], [
      found[2]!,
      ref.dv,
    ]] as const;
    for (const [gradient, of] of only) assertClose(gradient, of, bound, `${queries} to ${keys}`);
  }
});

testVariants("routed heads are those of their branches, and no other head is touched", async ({ gpu }) => {
  const [grid, settings] = CASES[1]!, headDim = 16, dim = HEADS * headDim, tokens = 5 * 7 * 9;
  const [q, k, v] = uploadAll(gpu, operands(tokens, headDim).slice(0, 3), [BATCH, tokens, dim]);
  using vorta = new VortaAttention(gpu, { heads: HEADS, headDim }, { grid, kept: 0 }, settings);
  const alone: Float32Array[] = [];
  for (const branch of BRANCHES) alone.push(await gpu.read(vorta.single(branch)(q!, k!, v!, 0)));
  for (const routes of [[2, 0, 1], [1, 1, 1], [0, 2, 2]]) {
    const layers = [Uint8Array.from([0, 0, 0]), Uint8Array.from(routes)];
    const y = gpu.scope(() => vorta.routed(layers)(q!, k!, v!, 1));
    const expected = Float32Array.from(
      { length: BATCH * tokens * dim },
      (_, at) => alone[routes[Math.floor(at % dim / headDim)]!]![at]!,
    );
    assertEquals(await gpu.read(y), expected);
  }
});

testVariants("dots of heads, sums over rows, mixtures of heads", async ({ gpu }) => {
  const [batch, tokens, heads, headDim] = [2, 131, 3, 8];
  const size = batch * tokens * heads * headDim;
  const a = randn(size, 1), b = randn(size, 2), w = [randn(batch * heads, 3), randn(batch * heads, 4)] as const;
  const [ta, tb] = uploadAll(gpu, [a, b], [batch, tokens, heads * headDim]);
  const weights = uploadAll(gpu, w, [batch, heads]);
  const dots = new Float64Array(batch * tokens * heads), sums = new Float64Array(batch * heads);
  const mixed = new Float64Array(size);
  for (let at = 0; at < size; at++) {
    const row = Math.floor(at / headDim), group = Math.floor(at / (tokens * heads * headDim)) * heads + row % heads;
    dots[row]! += a[at]! * b[at]!;
    sums[group]! += a[at]! * b[at]!;
    mixed[at] = w[0][group]! * a[at]! + w[1][group]! * b[at]!;
  }
  const d = headDots(gpu, ta!, tb!, heads);
  assertClose(await gpu.read(d), dots, 1e-6);
  assertClose(await gpu.read(sumRows(gpu, d)), sums, 2e-6);
  assertClose(await gpu.read(mixHeads(gpu, [[weights[0]!, ta!], [weights[1]!, tb!]])), mixed, 1e-6);
});

Deno.test("a sliding-tile pattern lists each pair once, both ways, and counts them", () => {
  for (const one of CASES) {
    const [grid, settings] = one, layout = layoutOf(one);
    for (const rows of [1, 4, 64]) {
      const { order, queries, keys, pairs } = slidingTiles(layout, settings, rows);
      assertEquals([...order].sort((a, b) => a - b), [...Array(validTokens(layout)).keys()]);
      const expected = new Set<string>();
      const always = tokensSeen(layout, settings);
      const sees = (i: number, j: number) =>
        Math.max(i, j) >= product(grid) || j < always || slides(grid, settings, i, j);
      for (const i of order) for (const j of order) if (sees(i, j)) expected.add(`${i},${j}`);
      assertEquals(pairs, expected.size);
      for (const [list, both] of [[queries, false], [keys(), true]] as const) {
        const found: string[] = [];
        for (const { first, count, firstRun, runs } of list.blocks) {
          assert(count <= rows && runs > 0);
          for (const run of list.runs.slice(firstRun, firstRun + runs)) {
            for (const i of order.subarray(first, first + count)) {
              for (const j of order.subarray(run.first, run.first + run.count)) {
                found.push(both ? `${j},${i}` : `${i},${j}`);
              }
            }
          }
        }
        assertEquals(found.length, expected.size);
        assertEquals(new Set(found), expected);
      }
    }
  }
});

Deno.test("sliding tiles of one window share blocks, so that most are full", () => {
  for (
    const [grid, tile] of [[[21, 30, 52], [5, 8, 8]], [[21, 45, 80], [5, 9, 8]], [[20, 45, 80], [5, 9, 8]]] as const
  ) {
    const { queries, order } = slidingTiles({ grid, kept: 0 }, { ...PAPER_SETTINGS, tile }, 64);
    const fill = order.length / (64 * queries.blocks.length);
    assert(fill > 0.96, `${grid}: ${fill}`);
  }
});

Deno.test("buckets and the rest are all tokens, once", () => {
  for (const one of [...CASES, [[21, 30, 52], PAPER_SETTINGS] as const]) {
    const layout = layoutOf(one), { members, rest, slots, size, keep } = coreSet(layout, one[1]);
    const all = [...members, ...rest].sort((a, b) => a - b);
    assertEquals(all, Array.from({ length: validTokens(layout) }, (_, i) => i));
    assertEquals(slots, members.length / size * (1 + keep) + rest.length);
  }
  // 81 frames at 480p: one latent frame is over, and half of the others' tokens are kept.
  assertEquals(coreSet({ grid: [21, 30, 52], kept: 0 }, PAPER_SETTINGS).slots, 20 * 30 * 52 / 2 + 30 * 52);
});

Deno.test("default sizes are the paper's at its grid, and smaller on smaller grids", () => {
  assertEquals(defaultSettings([20, 45, 80]), PAPER_SETTINGS);
  assertEquals(defaultSettings([8, 8, 8]), { tile: [2, 2, 2], window: [3, 3, 3], bucket: [2, 2, 2], rate: 0.5 });
});

Deno.test("default tiles of 81 frames leave no frame alone, and are about as dense as the paper's at its 77", () => {
  assertEquals(defaultSettings([21, 45, 80]).tile, [6, 9, 8]);
  assertEquals(defaultSettings([21, 30, 52]).tile, [6, 8, 8]);
  const density = (grid: Grid, settings: VortaSettings) =>
    slidingTiles({ grid, kept: 0 }, settings, 64).pairs / grid.reduce((a, b) => a * b) ** 2;
  const [paper, alone, mine] = [
    density([20, 45, 80], PAPER_SETTINGS),
    density([21, 45, 80], PAPER_SETTINGS),
    density([21, 45, 80], defaultSettings([21, 45, 80])),
  ];
  assertAlmostEquals(paper, 0.135, 1e-3);
  assertAlmostEquals(alone, 0.119, 1e-3);
  assertAlmostEquals(mine, 0.143, 1e-3);
  for (let length = 1; length <= 120; length++) {
    for (const axis of [0, 1, 2]) {
      const grid: [number, number, number] = [20, 45, 80];
      grid[axis] = length;
      const tile = defaultSettings(grid).tile[axis]!, most = [6, 9, 8][axis]!;
      assert(tile >= 1 && tile <= most + 1, `${length}: ${tile}`);
      assert(Math.ceil(length / tile) >= Math.min(3, length), `${length}: ${tile}`);
    }
  }
});

function uploadAll(gpu: Gpu, numbers: readonly Float32Array[], shape: readonly number[]): Tensor[] {
  return numbers.map((data) => gpu.upload(data, shape));
}
