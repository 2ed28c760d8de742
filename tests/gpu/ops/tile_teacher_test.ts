import { assert, assertEquals } from "@std/assert";
import { adamwInPlace, moveAverage } from "../../../gpu/ops/adamw.ts";
import { attention } from "../../../gpu/ops/attention.ts";
import { retainedLoss } from "../../../gpu/ops/tile_retained.ts";
import { tileAgreement } from "../../../gpu/ops/tile_agreement.ts";
import { tileHeat } from "../../../gpu/ops/tile_heat.ts";
import { projectionGradients, tileLoss } from "../../../gpu/ops/tile_loss.ts";
import { uploadTileBudget, uploadTileLayout } from "../../../gpu/tile_layout.ts";
import { adamwStep, clipGradients } from "../../../model/training/adamw.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";

/** Tiles of these sizes over tokens in an order of their own. */
function layoutOf(counts: readonly number[]) {
  const tokens = counts.reduce((a, b) => a + b, 0);
  const order = Uint32Array.from({ length: tokens }, (_, i) => i).sort((a, b) => (a * 37) % 101 - (b * 37) % 101);
  let first = 0;
  const tiles = counts.map((count) => ({ first: (first += count) - count, count }));
  return { tokens, order, tiles };
}

/** Both heats by their definition, in float64. */
function heats(q: Float32Array, k: Float32Array, heads: number, headDim: number, counts: readonly number[], b: number) {
  const { tokens, order, tiles } = layoutOf(counts), n = tiles.length;
  const max = new Float64Array(heads * n * n), sum = new Float64Array(heads * n * n);
  const at = (token: number, h: number, d: number) => ((b * tokens + token) * heads + h) * headDim + d;
  for (let h = 0; h < heads; h++) {
    for (const [i, mine] of tiles.entries()) {
      for (const query of order.subarray(mine.first, mine.first + mine.count)) {
        const e = Array.from({ length: tokens }, (_, key) => {
          let dot = 0;
          for (let d = 0; d < headDim; d++) dot += q[at(query, h, d)]! * k[at(key, h, d)]!;
          return Math.exp(dot / Math.sqrt(headDim));
        });
        const all = e.reduce((a, c) => a + c);
        for (const [j, other] of tiles.entries()) {
          const place = (h * n + i) * n + j;
          for (const key of order.subarray(other.first, other.first + other.count)) {
            max[place] = Math.max(max[place]!, e[key]! / all);
            sum[place]! += e[key]! / all;
          }
        }
      }
    }
  }
  return { max, sum };
}

const HEAT_CASES = [
  { batch: 1, heads: 1, headDim: 16, counts: [1] },
  { batch: 2, heads: 3, headDim: 32, counts: [5, 16, 16, 3, 1] },
  { batch: 1, heads: 2, headDim: 64, counts: [64, 65, 9] },
  { batch: 1, heads: 2, headDim: 128, counts: [70, 7, 64] },
];

/** The cases' inputs with what is expected of them, made once for all variants. */
let expectedHeats: ReturnType<typeof makeHeats> | undefined;
function makeHeats() {
  return HEAT_CASES.map((of) => {
    const { batch, heads, headDim, counts } = of;
    const size = batch * layoutOf(counts).tokens * heads * headDim;
    const q = randn(size, 1, 1.5), k = randn(size, 2, 1.5);
    return { ...of, q, k, all: Array.from({ length: batch }, (_, b) => heats(q, k, heads, headDim, counts, b)) };
  });
}

testVariants("tile heat, maximum and sum", async ({ gpu, bound }) => {
  for (const { batch, heads, headDim, counts, q, k, all } of expectedHeats ??= makeHeats()) {
    const { tokens, order, tiles } = layoutOf(counts), n = tiles.length, shape = [batch, tokens, heads * headDim];
    const layout = uploadTileLayout(gpu, [{ order, tiles }]);
    const [qt, kt] = [gpu.upload(q, shape), gpu.upload(k, shape)];
    const lse = gpu.tensor([batch, tokens, heads]);
    attention(gpu, qt, kt, kt, { heads, lse });
    const { max, sum } = tileHeat(gpu, qt, kt, lse, { heads, layout });
    const [gotMax, gotSum] = [await gpu.read(max), await gpu.read(sum)];
    // In f16 a score of 10 is off by a few hundredths of one in a hundred, and exp makes that relative.
    const most = gpu.f16 ? 4 * bound : 2 * bound;
    assertClose(gotMax, all.flatMap(({ max }) => [...max]), most, `${counts} max`);
    assertClose(gotSum, all.flatMap(({ sum }) => [...sum]), most, `${counts} sum`);

    if (heads === 1) continue;
    const only = gpu.upload(Uint32Array.of(heads - 1), [1], "u32");
    const part = await gpu.read(tileHeat(gpu, qt, kt, lse, { heads, layout, only }).max);
    for (let list = 0; list < batch * heads; list++) {
      const own = part.subarray(list * n * n, (list + 1) * n * n);
      if (list % heads === heads - 1) assertEquals(own, gotMax.subarray(list * n * n, (list + 1) * n * n));
      else assert(own.every(Number.isNaN), "another head was written");
    }
  }
});

/** Random rows that are heats, with a hole in each row of more than two. */
function someHeat(lists: number, n: number): Float32Array {
  return randn(lists * n * n, 5).map((x, i) => n > 2 && i % n === 1 ? 0 : Math.exp(2 * x) / 1000);
}

/** Σ weight · KL over all rows, and each row's, in float64. */
function divergence(scores: ArrayLike<number>, heat: Float32Array, lists: number, n: number): Float64Array {
  return Float64Array.from({ length: lists * n }, (_, row) => {
    const s = Array.from({ length: n }, (_, c) => scores[row * n + c]!);
    const t = Array.from({ length: n }, (_, c) => heat[row * n + c]!);
    const total = t.reduce((a, c) => a + c), top = Math.max(...s);
    const lse = top + Math.log(s.reduce((a, c) => a + Math.exp(c - top), 0));
    return t.reduce((sum, x, c) => x === 0 ? sum : sum + x / total * (Math.log(x / total) - (s[c]! - lse)), 0);
  });
}

testVariants("KL of scores against heat, and its gradient, against finite differences in float64", async ({ gpu }) => {
  for (const [lists, n] of [[1, 1], [2, 3], [3, 37], [2, 150]] as const) {
    const scores = randn(lists * n * n, 4, 3).map((x) => x + 40), heat = someHeat(lists, n);
    const [s, t] = [gpu.upload(scores, [lists, n, n]), gpu.upload(heat, [lists, n, n])];
    const { rows, gradient } = tileLoss(gpu, s, t, 0.5);
    const got = await gpu.read(gradient);
    const expected = divergence(scores, heat, lists, n);
    const gotRows = await gpu.read(rows);
    // Scores of 40 are held to 4e-6, and so is their logarithm's difference.
    for (let i = 0; i < gotRows.length; i++) assert(Math.abs(gotRows[i]! - expected[i]!) < 2e-5 * (1 + expected[i]!));
    const total = (x: ArrayLike<number>) => 0.5 * divergence(x, heat, lists, n).reduce((a, c) => a + c, 0);
    for (const i of [0, 1, 5, n * n - 1, lists * n * n - 1].filter((i) => i < lists * n * n)) {
      const moved = (by: number) => total(Float64Array.from(scores, (x, j) => j === i ? x + by : x));
      const slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
      assert(Math.abs(got[i]! - slope) < 1e-5, `gradient ${i} of ${n} is ${got[i]}, not ${slope}`);
    }
    if (lists === 1) continue;
    const chosen = tileLoss(gpu, s, t, 0.5, gpu.upload(Uint32Array.of(1), [1], "u32"));
    assertEquals(await gpu.read(chosen.rows), gotRows.slice(n, 2 * n));
    assertEquals((await gpu.read(chosen.gradient)).slice(n * n, 2 * n * n), got.slice(n * n, 2 * n * n));
  }
});

testVariants("a heat that is not a number shows in the loss", async ({ gpu }) => {
  const { rows } = tileLoss(
    gpu,
    gpu.upload(Float32Array.of(1, 2, 3, 4), [1, 2, 2]),
    gpu.upload(Float32Array.of(0.5, NaN, 0.1, 0.2), [1, 2, 2]),
    1,
  );
  const [bad, good] = await gpu.read(rows);
  assert(Number.isNaN(bad) && Number.isFinite(good));
});

testVariants(
  "gradients of the projections, against finite differences of the whole loss in float64",
  async ({ gpu }) => {
    const lists = 2, n = 7, dim = 8, scale = 1 / Math.sqrt(dim);
    const featuresQ = randn(lists * n * 3 * dim, 1), featuresK = randn(lists * n * 3 * dim, 2);
    const projectQ = randn(lists * 3 * dim * dim, 3, 0.2), projectK = randn(lists * 3 * dim * dim, 4, 0.2);
    const heat = someHeat(lists, n);
    const predict = (features: Float32Array, projection: ArrayLike<number>) =>
      Float64Array.from({ length: lists * n * dim }, (_, at) => {
        const d = at % dim, row = Math.floor(at / dim), list = Math.floor(row / n);
        let sum = features[row * 3 * dim + d]!;
        for (let c = 0; c < 3 * dim; c++) {
          sum += features[row * 3 * dim + c]! * projection[(list * 3 * dim + c) * dim + d]!;
        }
        return sum;
      });
    const scoresOf = (q: Float64Array, k: Float64Array) =>
      Float64Array.from({ length: lists * n * n }, (_, at) => {
        const j = at % n, i = Math.floor(at / n) % n, list = Math.floor(at / (n * n));
        let dot = 0;
        for (let d = 0; d < dim; d++) dot += q[(list * n + i) * dim + d]! * k[(list * n + j) * dim + d]!;
        return scale * dot;
      });
    const lossAt = (pq: ArrayLike<number>, pk: ArrayLike<number>) =>
      divergence(scoresOf(predict(featuresQ, pq), predict(featuresK, pk)), heat, lists, n).reduce((a, c) => a + c) / n;

    const q = predict(featuresQ, projectQ), k = predict(featuresK, projectK);
    const upload = (x: ArrayLike<number>, width: number) => gpu.upload(Float32Array.from(x), [lists, n, width]);
    const { gradient } = tileLoss(gpu, upload(scoresOf(q, k), n), upload(heat, n), 1 / n);
    const scored = {
      featuresQ: upload(featuresQ, 3 * dim),
      featuresK: upload(featuresK, 3 * dim),
      predictedQ: upload(q, dim),
      predictedK: upload(k, dim),
    };
    const empty = () => gpu.tensor([lists, 3 * dim, dim]);
    const into = { q: empty(), k: empty() };
    projectionGradients(gpu, gradient, scored, scale, into);
    const got = { q: await gpu.read(into.q), k: await gpu.read(into.k) };
    const slopes = (projection: Float32Array, loss: (x: ArrayLike<number>) => number) =>
      Float64Array.from(projection, (_, i) => {
        const moved = (by: number) => loss(Float64Array.from(projection, (x, j) => j === i ? x + by : x));
        return (moved(1e-5) - moved(-1e-5)) / 2e-5;
      });
    assertClose(got.q, slopes(projectQ, (x) => lossAt(x, projectK)), 1e-5, "P_q");
    assertClose(got.k, slopes(projectK, (x) => lossAt(projectQ, x)), 1e-5, "P_k");

    const part = { q: empty(), k: empty() };
    projectionGradients(gpu, gradient, scored, scale, part, gpu.upload(Uint32Array.of(1), [1], "u32"));
    for (const side of ["q", "k"] as const) {
      const values = await gpu.read(part[side]), half = values.length / 2;
      assert(values.subarray(0, half).every(Number.isNaN));
      assertEquals(values.slice(half), got[side].slice(half));
    }
  },
);

testVariants("AdamW on the GPU is that on the CPU", async ({ gpu }) => {
  const size = 131, options = { lr: 0.01, weightDecay: 0.1, beta2: 0.95 };
  const data = randn(size, 1), mean = new Float32Array(size), square = new Float32Array(size);
  const upload = (x: Float32Array) => gpu.upload(x, [size]);
  const tensors = { x: upload(data), mean: upload(mean), square: upload(square) };
  const average = upload(data);
  let expected = Float64Array.from(data);
  for (let step = 1; step <= 4; step++) {
    const gradient = randn(size, 10 + step, 10 ** (step - 3));
    // Clipped from the second step on: their norms are 0.11, 1.1, 11 and 110.
    const squares = gpu.upload(Float32Array.of(gradient.reduce((sum, g) => sum + g * g, 0)), [1]);
    adamwInPlace(gpu, { ...tensors, gradient: upload(gradient) }, step, { ...options, clip: { most: 0.5, squares } });
    clipGradients([gradient], 0.5);
    adamwStep({ data, gradient, mean, square }, step, options);
    moveAverage(gpu, average, tensors.x, 0.75);
    expected = expected.map((x, i) => 0.75 * x + 0.25 * data[i]!);
  }
  assertClose(await gpu.read(tensors.x), data, 1e-6, "parameters");
  assertClose(await gpu.read(tensors.mean), mean, 1e-6, "means");
  assertClose(await gpu.read(tensors.square), square, 1e-6, "squares");
  assertClose(await gpu.read(average), expected, 1e-6, "average");
});

testVariants("agreement of picked tiles with the oracle's", async ({ gpu }) => {
  const counts = [4, 3, 5, 1, 2], n = counts.length, lists = 3, keep = [1, 2, 3, 5, 2];
  const { order, tiles } = layoutOf(counts);
  const layout = uploadTileLayout(gpu, [{ order, tiles }]), budget = uploadTileBudget(gpu, [{ tiles, keep }], 4);
  const mass = randn(lists * n * n, 3).map(Math.abs);
  // Any tiles will do; a row's own is among them.
  const pick = (seed: number) => {
    const noise = randn(lists * n * n, seed);
    return Array.from({ length: lists * n }, (_, row) => {
      const own = row % n;
      const others = Array.from({ length: n }, (_, j) => j).filter((j) => j !== own)
        .sort((a, b) => noise[row * n + a]! - noise[row * n + b]!);
      return [own, ...others].slice(0, keep[own]).sort((a, b) => a - b);
    });
  };
  const upload = (rows: number[][]) => {
    const runs = rows.flat().flatMap((j) => [tiles[j]!.first, tiles[j]!.count]);
    return gpu.upload(Uint32Array.from(runs), [lists, budget.runs, 2], "u32");
  };
  const picked = pick(1), oracle = pick(2);
  const expected = Array.from({ length: lists }, (_, list) => {
    const sums = [0, 0, 0, 0] as [number, number, number, number];
    for (let own = 0; own < n; own++) {
      const row = list * n + own, at = (j: number) => mass[row * n + j]!;
      const wanted = oracle[row]!.filter((j) => j !== own);
      sums[0] += wanted.filter((j) => picked[row]!.includes(j)).length;
      sums[1] += wanted.length;
      sums[2] += picked[row]!.reduce((sum, j) => sum + at(j), 0);
      sums[3] += oracle[row]!.reduce((sum, j) => sum + at(j), 0);
    }
    return sums;
  });
  const [a, b, m] = [upload(picked), upload(oracle), gpu.upload(mass, [lists, n, n])];
  assertClose(await gpu.read(tileAgreement(gpu, a, b, m, layout, budget)), expected.flat(), 1e-6);
  const only = gpu.upload(Uint32Array.of(2), [1], "u32");
  assertClose(await gpu.read(tileAgreement(gpu, a, b, m, layout, budget, only)), expected[2]!, 1e-6);
  // The oracle agrees with itself.
  const [both, wanted, mine, its] = await gpu.read(tileAgreement(gpu, b, b, m, layout, budget));
  assertEquals([both, mine], [wanted, its]);
});

/** 1 − Σ π·mass / Σ best·mass of a row by definition, its own tile left out. */
function lostMass(scores: readonly number[], mass: readonly number[], own: number, keep: number): number {
  const others = [...scores.keys()].filter((j) => j !== own), kept = keep - 1;
  if (kept === 0 || kept === others.length) return 0;
  const s = others.map((j) => scores[j]!), a = others.map((j) => mass[j]!);
  const mean = s.reduce((x, y) => x + y) / s.length;
  const deviation = Math.sqrt(s.reduce((sum, x) => sum + (x - mean) ** 2, 0) / s.length);
  const z = s.map((x) => (x - mean) / deviation), sorted = z.toSorted((x, y) => y - x);
  const cut = (sorted[kept - 1]! + sorted[kept]!) / 2;
  const soft = z.map((x) => 1 / (1 + Math.exp(-(x - cut) / 0.15))), total = soft.reduce((x, y) => x + y);
  const held = soft.reduce((sum, x, i) => sum + kept * x / total * a[i]!, 0);
  return 1 - held / a.toSorted((x, y) => y - x).slice(0, kept).reduce((x, y) => x + y);
}

testVariants("the share of mass that a choice loses, and its gradient", async ({ gpu }) => {
  const n = 7, lists = 3, keep = [1, 2, 3, 4, 5, 6, 7];
  const { tiles } = layoutOf(Array.from({ length: n }, () => 4)), budget = uploadTileBudget(gpu, [{ tiles, keep }], 4);
  const scores = randn(lists * n * n, 1, 3), mass = randn(lists * n * n, 2).map((x) => x * x);
  const loss = (at: Float64Array | Float32Array, list: number, row: number) => {
    const of = (x: ArrayLike<number>) => Array.from({ length: n }, (_, j) => x[(list * n + row) * n + j]!);
    return lostMass(of(at), of(mass), row, keep[row]!);
  };
  const [gs, gm] = [scores, mass].map((x) => gpu.upload(x, [lists, n, n]));
  for (const chosen of [[0, 1, 2], [2]]) {
    const only = chosen.length === lists ? undefined : gpu.upload(Uint32Array.from(chosen), [chosen.length], "u32");
    const { rows, gradient } = retainedLoss(gpu, gs!, gm!, budget, 0.5, only);
    const expected = chosen.flatMap((list) => Array.from({ length: n }, (_, row) => loss(scores, list, row)));
    assertClose(await gpu.read(rows), expected, 2e-6, "loss");
    const slopes = chosen.flatMap((list) =>
      Array.from({ length: n * n }, (_, i) => {
        const moved = (by: number) =>
          loss(Float64Array.from(scores, (x, at) => at === list * n * n + i ? x + by : x), list, Math.floor(i / n));
        return 0.5 * (moved(1e-6) - moved(-1e-6)) / 2e-6;
      })
    );
    const found = await gpu.read(gradient);
    assertClose(
      chosen.flatMap((list) => [...found.subarray(list * n * n, (list + 1) * n * n)]),
      slopes,
      1e-5,
      "gradient",
    );
  }
  // What a choice does not see moves nothing: a row's shift and scale.
  const scaled = gpu.upload(scores.map((x, i) => 5 * x + 100 * Math.floor(i / n)), [lists, n, n]);
  const { rows } = retainedLoss(gpu, scaled, gm!, budget, 1), { rows: before } = retainedLoss(gpu, gs!, gm!, budget, 1);
  assertClose(await gpu.read(rows), await gpu.read(before), 1e-4, "shifted and scaled");
});
