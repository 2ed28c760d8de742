import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { Gpu } from "../../../gpu/gpu.ts";
import { attention } from "../../../gpu/ops/attention.ts";
import { relativeError } from "../../../gpu/relative_error.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { everyHead, wholeAttention } from "../../../model/attention/head_groups.ts";
import { type TokenLayout, validTokens } from "../../../model/attention/layout.ts";
import type { AttentionTask, SelectedTiles } from "../../../model/attention/method.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { VedaAttention } from "../../../model/veda/attention.ts";
import { budget, defaultKeep } from "../../../model/veda/budget.ts";
import { vedaAttention, vedaHeads, type VedaOptions } from "../../../model/veda/methods.ts";
import { MASS_TERMS, NO_TERMS, type ScoreTerms, type TileScorer, uploadScorer } from "../../../model/veda/scorer.ts";
import { tileGrid } from "../../../model/attention/tiles.ts";
import type { TileShapes } from "../../../model/veda/tile_shapes.ts";
import { loadVeda, projectionName, type VedaFile } from "../../../model/veda/veda_file.ts";
import { saveVeda } from "../../../model/veda/save_veda.ts";
import { VortaAttention } from "../../../model/vorta/attention.ts";
import { defaultSettings } from "../../../model/vorta/settings.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { assertClose, randn, testVariants, toBf16, variants } from "../../gpu.ts";
import { inTempDir } from "../../process.ts";
import { attend } from "../../reference_attention.ts";

const GRID: Grid = [3, 5, 6], TOKENS = 90, BATCH = 2, HEADS = 3, LAYERS = 2, HEAD_DIM = 16, KEEP = 0.4;
const LAYOUT = { grid: GRID, kept: 0 };
const CONFIG = { layers: LAYERS, heads: HEADS, headDim: HEAD_DIM };
/** Heads of two shapes in the first layer, of one in the second; the third shape is nobody's. */
const SHAPES: TileShapes = {
  shapes: [[1, 4, 4], [2, 2, 4], [16, 1, 1]],
  choices: [Uint8Array.of(1, 0, 1), Uint8Array.of(0, 0, 0)],
};

/** Projections that bf16 can hold, and their numbers by layer. */
function randomScorer(dtype: "F32" | "BF16" = "F32"): { scorer: TileScorer; numbers: Float32Array[][] } {
  const made = Array.from(
    { length: LAYERS },
    (_, layer) => [0, 1].map((side) => toBf16(randn(HEADS * 3 * HEAD_DIM * HEAD_DIM, 20 + 2 * layer + side, 0.1))),
  );
  const stored = (i: number, side: number) => {
    const { packed, values } = made[i]![side]!;
    return { dtype, data: dtype === "BF16" ? packed : new Uint8Array(values.buffer) };
  };
  return {
    scorer: {
      heads: HEADS,
      headDim: HEAD_DIM,
      layers: made.map((_, i) => ({ q: stored(i, 0), k: stored(i, 1) })),
      layerPrefixes: ["blocks.0.", "blocks.1."],
    },
    numbers: made.map((sides) => sides.map(({ values }) => values)),
  };
}

/** The layer's output by definition, from pooling on. */
function reference(
  [q, k, v]: readonly Float32Array[],
  layer: number,
  numbers?: readonly Float32Array[],
  layout: TokenLayout = LAYOUT,
  terms: ScoreTerms = numbers ? NO_TERMS : MASS_TERMS,
  share = KEEP,
): Float64Array {
  const all = TOKENS + layout.kept, valid = validTokens(layout);
  const sees = Array.from({ length: BATCH * HEADS }, (_, list) => {
    const b = Math.floor(list / HEADS), h = list % HEADS;
    const { tiles, order, capacity, tokens } = tileGrid(GRID, SHAPES.shapes[SHAPES.choices[layer]![h]!]!);
    const keep = budget(share, { tiles, capacity, tokens });
    const vectors = (x: Float32Array, p: Float32Array | undefined) =>
      tiles.map(({ first, count }) => {
        const rows = [...order.subarray(first, first + count)].map((token) =>
          x.subarray(((b * all + token) * HEADS + h) * HEAD_DIM, ((b * all + token) * HEADS + h + 1) * HEAD_DIM)
        );
        const column = (d: number) => rows.map((row) => row[d]!);
        const each = <T>(make: (d: number) => T) => Array.from({ length: HEAD_DIM }, (_, d) => make(d));
        const mean = each((d) => column(d).reduce((a, c) => a + c) / count);
        const features = [...mean, ...each((d) => Math.max(...column(d))), ...each((d) => Math.min(...column(d)))];
        if (!p) return mean;
        return mean.map((m, d) =>
          features.reduce((sum, f, c) => sum + f * p[(h * 3 * HEAD_DIM + c) * HEAD_DIM + d]!, m)
        );
      });
    const [qs, ks] = [vectors(q!, numbers?.[0]), vectors(k!, numbers?.[1])];
    const moment = (x: Float32Array, about: readonly number[] | undefined, tile: number, d: number) => {
      const { first, count } = tiles[tile]!;
      return order.subarray(first, first + count).reduce((sum, token) => {
        const value = x[((b * all + token) * HEADS + h) * HEAD_DIM + d]!;
        return sum + (value - (about?.[d] ?? 0)) ** 2 / count;
      }, 0);
    };
    const means = vectors(k!, undefined);
    const added = (i: number, j: number) => {
      const channels = Array.from(
        { length: HEAD_DIM },
        (_, d) => moment(q!, undefined, i, d) * moment(k!, means[j], j, d),
      );
      return (terms.count ? Math.log(tiles[j]!.count) : 0) +
        (terms.second ? channels.reduce((sum, x) => sum + x) / (2 * HEAD_DIM) : 0);
    };
    const tileOf = new Map<number, number>();
    for (const [tile, { first, count }] of tiles.entries()) {
      for (const token of order.subarray(first, first + count)) tileOf.set(token, tile);
    }
    const kept = qs.map((query, row) => {
      const scores = ks.map((key, j) =>
        j === row ? Infinity : key.reduce((sum, x, d) => sum + x * query[d]!, 0) / Math.sqrt(HEAD_DIM) + added(row, j)
      );
      return new Set([...scores.keys()].sort((a, c) => scores[c]! - scores[a]!).slice(0, keep[row]!));
    });
    return (i: number, j: number) =>
      j < valid && (Math.max(i, j) >= TOKENS || kept[tileOf.get(i)!]!.has(tileOf.get(j)!));
  });
  const y = attend(q!, k!, v!, {
    batch: BATCH,
    queries: all,
    keys: all,
    heads: HEADS,
    headDim: HEAD_DIM,
    sees: (b, h, i, j) => sees[b * HEADS + h]!(i, j),
  });
  return y.map((x, i) => Math.floor(i / (HEADS * HEAD_DIM)) % all < valid ? x : 0);
}

/** Random q, k and v; on the GPU their padding is NaN. */
function operands(gpu: Gpu, layout: TokenLayout = LAYOUT) {
  const all = TOKENS + layout.kept, dim = HEADS * HEAD_DIM;
  const numbers = [1, 2, 3].map((seed) => randn(BATCH * all * dim, seed));
  const tensors = numbers.map((x) => x.map((y, i) => Math.floor(i / dim) % all < validTokens(layout) ? y : NaN))
    .map((x) => gpu.upload(x, [BATCH, all, dim]));
  return { numbers, tensors: tensors as [Tensor, Tensor, Tensor] };
}

/** What belongs to one head. */
function ofHead(y: ArrayLike<number>, head: number): number[] {
  return Array.from(y).filter((_, i) => Math.floor(i / HEAD_DIM) % HEADS === head);
}

testVariants("Veda's attention: each head over tiles of its own shape, by definition", async ({ gpu, bound }) => {
  const { numbers, tensors } = operands(gpu);
  for (
    const [scored, format, terms] of [
      [false, "F32", MASS_TERMS],
      [false, "F32", NO_TERMS],
      [true, "F32", NO_TERMS],
      [true, "BF16", { count: true, second: true }],
    ] as const
  ) {
    void gpu.placeholder; // made on first use, and kept
    const before = gpu.memory.used;
    const { scorer, numbers: p } = randomScorer(format);
    using owner = new TensorOwner(gpu);
    const projections = scored ? uploadScorer(owner, scorer) : undefined;
    const veda = new VedaAttention(gpu, CONFIG, LAYOUT, {
      shapes: SHAPES,
      keep: KEEP,
      ...terms !== MASS_TERMS && { scores: { projections, terms } },
    });
    for (let layer = 0; layer < LAYERS; layer++) {
      const y = gpu.scope(() => wholeAttention(gpu, LAYOUT, veda.some(everyHead(CONFIG)))(...tensors, layer));
      const expected = reference(numbers, layer, scored ? p[layer] : undefined, LAYOUT, terms);
      assertClose(await gpu.read(y), expected, bound, `layer ${layer}, ${scored ? format : "untrained"}`);
      gpu.release(y);
    }
    veda[Symbol.dispose]();
    owner[Symbol.dispose]();
    assertEquals(gpu.memory.used, before, "nothing is left behind");
  }
});

testVariants("Veda's attention always selects kept tokens, and they attend to all", async ({ gpu, bound }) => {
  const { scorer, numbers: p } = randomScorer();
  using owner = new TensorOwner(gpu);
  const projections = uploadScorer(owner, scorer);
  for (const kept of [{ kept: 7, length: 5 }, { kept: 4, length: 0 }, { kept: 70, length: 69 }, { kept: 1 }]) {
    const layout = { grid: GRID, ...kept }, { numbers, tensors } = operands(gpu, layout);
    using veda = new VedaAttention(gpu, CONFIG, layout, {
      ...{ shapes: SHAPES, keep: KEEP },
      scores: { projections, terms: NO_TERMS },
    });
    const attend = wholeAttention(gpu, layout, veda.some(everyHead(CONFIG)));
    for (let layer = 0; layer < LAYERS; layer++) {
      const y = gpu.scope(() => attend(...tensors, layer));
      assertClose(await gpu.read(y), reference(numbers, layer, p[layer], layout), bound, JSON.stringify(kept));
      gpu.release(y);
    }
    const valid = validTokens(layout), added = valid ** 2 - TOKENS ** 2;
    using without = new VedaAttention(gpu, CONFIG, LAYOUT, { shapes: SHAPES, keep: KEEP });
    assertEquals(veda.pairs(0, 0), without.pairs(0, 0) + added);
    assertEquals(veda.pairs(0, 0, true), valid ** 2);
    for (const tensor of tensors) gpu.release(tensor);
  }
});

testVariants(
  "Veda's attention of some heads leaves the others alone; dense layers are dense",
  async ({ gpu, bound }) => {
    const { numbers, tensors } = operands(gpu);
    using veda = new VedaAttention(gpu, CONFIG, LAYOUT, { shapes: SHAPES, keep: KEEP, denseLayers: new Set([1]) });
    const heads = [[2, 1], [1]];
    const expected = [
      reference(numbers, 0),
      attend(numbers[0]!, numbers[1]!, numbers[2]!, {
        batch: BATCH,
        queries: TOKENS,
        keys: TOKENS,
        heads: HEADS,
        headDim: HEAD_DIM,
      }),
    ];
    for (let layer = 0; layer < LAYERS; layer++) {
      const y = await gpu.read(gpu.scope(() => wholeAttention(gpu, LAYOUT, veda.some(heads))(...tensors, layer)));
      for (let head = 0; head < HEADS; head++) {
        if (heads[layer]!.includes(head)) assertClose(ofHead(y, head), ofHead(expected[layer]!, head), bound);
        else assert(ofHead(y, head).every(Number.isNaN), `head ${head} of layer ${layer} was written`);
      }
    }
    assertEquals(veda.pairs(1, 0), TOKENS ** 2);
    assert(veda.pairs(0, 0) < TOKENS ** 2 / 2);
  },
);

testVariants("heads of one shape may have budgets of their own", async ({ gpu, bound }) => {
  const { numbers, tensors } = operands(gpu);
  const budgets = [Float32Array.of(2, 1, 9), Float32Array.of(0.5, 1, 0.5)];
  using veda = new VedaAttention(gpu, CONFIG, LAYOUT, { shapes: { ...SHAPES, budgets }, keep: KEEP });
  for (let layer = 0; layer < LAYERS; layer++) {
    const y = await gpu.read(
      gpu.scope(() => wholeAttention(gpu, LAYOUT, veda.some(everyHead(CONFIG)))(...tensors, layer)),
    );
    for (let head = 0; head < HEADS; head++) {
      const share = Math.min(1, KEEP * budgets[layer]![head]!);
      const expected = reference(numbers, layer, undefined, LAYOUT, MASS_TERMS, share);
      assertClose(ofHead(y, head), ofHead(expected, head), bound, `head ${head} of layer ${layer}`);
    }
  }
  assertEquals(veda.pairs(0, 2), TOKENS ** 2);
  assert(veda.pairs(1, 0) < veda.pairs(1, 1) && veda.pairs(1, 0) === veda.pairs(1, 2));
});

/** Shapes of 9, 12 and 18 tiles; a fourth has so many that its heads are computed apart. */
const SEVERAL = {
  shapes: [[4, 2, 2], [1, 4, 4], [1, 16, 1], [16, 1, 1]],
  choices: [Uint8Array.of(0, 1, 2), Uint8Array.of(2, 2, 0), Uint8Array.of(1, 0, 3)],
  budgets: [Float32Array.of(0.5, 1, 2), Float32Array.of(0.75, 1.5, 1), Float32Array.of(2, 0.5, 1)],
} satisfies TileShapes;

/** The same shape and budget for all heads: those of one head. */
function ofAll({ shapes, choices, budgets }: typeof SEVERAL, layer: number, head: number): TileShapes {
  return {
    shapes,
    choices: choices.map((each) => each.map(() => choices[layer]![head]!)),
    budgets: budgets.map((each) => each.map(() => budgets[layer]![head]!)),
  };
}

testVariants("heads of several tiles and budgets give at once what they give one by one", async ({ gpu }) => {
  const { scorer } = randomScorer(), trained = { ...scorer, layers: [...scorer.layers, scorer.layers[0]!] };
  using owner = new TensorOwner(gpu);
  const scored = { projections: uploadScorer(owner, trained), terms: { count: true, second: true } };
  const cases: [layout: Omit<TokenLayout, "grid">, groups: number[], scores?: typeof scored][] = [
    [{ kept: 0 }, [1, 1, 2]],
    [{ kept: 0 }, [1, 1, 2], scored],
    [{ kept: 7, length: 5 }, [1, 1, 2], scored],
    // Shapes have different numbers of tiles that show the known frame.
    [{ kept: 0, known: 1 }, [3, 2, 3]],
  ];
  for (const [tokens, groups, scores] of cases) {
    const layout = { grid: GRID, ...tokens }, { tensors } = operands(gpu, layout);
    const options = { keep: 0.3, ...scores && { scores } };
    /** The output, and by head the first slots of the selected tiles, row by row. */
    const attended = async (veda: VedaAttention, layer: number, heads = everyHead({ layers: 3, heads: HEADS })) => {
      const seen: SelectedTiles[] = [], runs: Tensor[] = [];
      const onTiles = (selected: SelectedTiles) => {
        seen.push(selected);
        runs.push(owner.adopt(selected.runs));
      };
      const at = { step: 0, pass: 0, onTiles };
      const y = gpu.scope(() => wholeAttention(gpu, layout, veda.some(heads, false, at))(...tensors, layer));
      const numbers = await gpu.read(y), tiles: number[][] = [];
      for (const { heads, kinds, budget, runs } of seen) {
        const all = new Uint32Array(await gpu.readBytes(runs));
        for (const [i, head] of heads.entries()) {
          const rows = kinds[i]!.keep.reduce((sum, count) => sum + count + (budget.kept ? 1 : 0), 0);
          tiles[head] = [...all.subarray(head * budget.runs * 2, (head * budget.runs + rows) * 2)];
        }
      }
      owner.free(...runs);
      gpu.release(y);
      return { y: numbers, tiles, groups: seen.length };
    };
    using together = new VedaAttention(gpu, CONFIG, layout, { shapes: SEVERAL, ...options });
    for (let layer = 0; layer < 3; layer++) {
      const found = await attended(together, layer), what = `layer ${layer}, ${JSON.stringify(tokens)}`;
      assert(found.y.every(Number.isFinite), what);
      assertEquals(found.groups, groups[layer]);
      for (let head = 0; head < HEADS; head++) {
        using apart = new VedaAttention(gpu, CONFIG, layout, { shapes: ofAll(SEVERAL, layer, head), ...options });
        const alone = await attended(apart, layer);
        assertEquals(ofHead(found.y, head), ofHead(alone.y, head), `${what}, head ${head}`);
        assertEquals(found.tiles[head], alone.tiles[head], `${what}, head ${head}`);
      }
      const heads = [[2], [1, 2], [0]], some = await attended(together, layer, heads);
      for (const head of heads[layer]!) assertEquals(ofHead(some.y, head), ofHead(found.y, head), what);
    }
    for (const tensor of tensors) gpu.release(tensor);
  }
});

testVariants("heads that VORTA leaves full run through Veda, the others as before", async ({ gpu }) => {
  const { tensors } = operands(gpu);
  using vorta = new VortaAttention(gpu, CONFIG, LAYOUT, defaultSettings(GRID));
  using veda = new VedaAttention(gpu, CONFIG, LAYOUT, { shapes: SHAPES, keep: KEEP });
  const routes = [Uint8Array.of(0, 1, 0), Uint8Array.of(2, 0, 1)];
  for (let layer = 0; layer < LAYERS; layer++) {
    const run = (work: () => Tensor) => gpu.read(gpu.scope(work));
    const plain = await run(() => vorta.routed(routes)(...tensors, layer));
    const whole = await run(() => wholeAttention(gpu, LAYOUT, veda.some(everyHead(CONFIG)))(...tensors, layer));
    const both = await run(() => vorta.routed(routes, veda.some([[0, 2], [1]]))(...tensors, layer));
    for (let head = 0; head < HEADS; head++) {
      assertEquals(ofHead(both, head), ofHead(routes[layer]![head] === 0 ? whole : plain, head), `${layer} ${head}`);
    }
  }
});

testVariants(
  "VORTA's full heads through Veda with the rest of tiles, which is nearer to full attention",
  async ({ gpu }) => {
    const { numbers, tensors } = operands(gpu), settings = { shapes: SHAPES, keep: KEEP };
    using vorta = new VortaAttention(gpu, CONFIG, LAYOUT, defaultSettings(GRID));
    using veda = new VedaAttention(gpu, CONFIG, LAYOUT, settings);
    using more = new VedaAttention(gpu, CONFIG, LAYOUT, { ...settings, rest: true });
    const run = (veda: VedaAttention) =>
      gpu.read(gpu.scope(() => vorta.routed([Uint8Array.of(0, 1, 0)], veda.some([[0, 2]]))(...tensors, 0)));
    const [without, withRest] = [await run(veda), await run(more)];
    assertEquals(ofHead(withRest, 1), ofHead(without, 1));
    const sizes = { batch: BATCH, queries: TOKENS, keys: TOKENS, heads: HEADS, headDim: HEAD_DIM };
    const full = attend(numbers[0]!, numbers[1]!, numbers[2]!, sizes);
    for (const head of [0, 2]) {
      const [before, after] = [without, withRest].map((y) => relativeError(ofHead(y, head), ofHead(full, head)));
      assert(after! < 0.7 * before!, `${after} is not less than ${before}`);
    }
  },
);

/** A clip of so many steps, as far as attention looks at it. */
async function task(steps: number, config = CONFIG): Promise<AttentionTask> {
  const { gpu } = (await variants())[0]!;
  return {
    gpu,
    shape: config,
    layout: LAYOUT,
    lengths: [0],
    timesteps: Array.from({ length: steps }, (_, i) => 1000 - i),
    timeEmbedding: () => Promise.reject(new Error("Veda needs no embedding")),
  };
}

const gpuTest = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });

gpuTest("Veda's method: first steps and chosen layers are dense, and the density says so", async () => {
  const density = async (options: Parameters<typeof vedaAttention>[0], reason?: string) => {
    const steps = 4, clip = await task(steps);
    void clip.gpu.placeholder; // made on first use, and kept
    const before = clip.gpu.memory.used;
    const prepared = await vedaAttention({ shapes: SHAPES, keep: KEEP, scorer: randomScorer().scorer, ...options })
      .prepare(
        clip,
      );
    let dense = 0;
    await clip.gpu.waitingScope(async () => {
      const { tensors } = operands(clip.gpu);
      const full = await clip.gpu.read(attention(clip.gpu, ...tensors, { heads: HEADS }));
      for (let step = 0; step < steps; step++) {
        const y = await clip.gpu.read(prepared.at(step, 0)(...tensors, 0));
        if (y.every((x, i) => x === full[i])) dense++;
      }
    });
    const { density, whyFull } = prepared.report();
    assertEquals(whyFull !== undefined, density === 1, "nothing left out has a reason, and nothing else");
    if (reason !== undefined) assertStringIncludes(whyFull ?? "", reason);
    prepared[Symbol.dispose]();
    assertEquals(clip.gpu.memory.used, before, "nothing is left behind");
    return [dense, density] as const;
  };
  const [none, sparse] = await density({ denseSteps: 0 });
  assertEquals(none, 0);
  // 90 tokens are 6 tiles of 16 at best, but here 12, whose mean size is 7.5: ρ · 6² · 7.5² / 90² of the pairs, by the
  // budget alone; a row's own tile is counted as it is, which is more where tiles are larger.
  assert(sparse > 0.4 / 4 && sparse < 0.4 / 2, `density ${sparse}`);
  const [one, mixed] = await density({});
  assertEquals(one, 1);
  assert(Math.abs(mixed - (1 + 3 * sparse) / 4) < 1e-12);
  assertEquals(await density({ denseSteps: 9 }, "the first 9 steps are dense, and the clip has only 4"), [4, 1]);
  assertEquals((await density({ denseLayers: [0, 1] }, "all 2 layers are dense"))[1], 1);
  // Layers weigh alike, but their plans differ.
  const [, first] = await density({ denseSteps: 0, denseLayers: [0] });
  const [, second] = await density({ denseSteps: 0, denseLayers: [1] });
  assert(Math.abs(first + second - 1 - sparse) < 1e-12);
  assertEquals((await density({ keep: 1, denseSteps: 0 }, "all tiles were requested"))[1], 1);
  // Nothing given: a shape that suits the grid, which has so few tiles of it that all are kept; of smaller ones twelve.
  const alone = await vedaAttention({}).prepare(await task(2));
  assertEquals([alone.report().density, alone.report().dense], [1, { steps: 1, layers: 0 }]);
  const many = await vedaAttention({ denseSteps: 9, denseLayers: [1, 1] }).prepare(await task(2));
  assertEquals(many.report().dense, { steps: 2, layers: 1 });
  many[Symbol.dispose]();
  assertStringIncludes(alone.report().whyFull ?? "", "and at least 12 are kept unless a share is given");
  alone[Symbol.dispose]();
  const clip = await task(2);
  const densityOf = async (options: Parameters<typeof vedaAttention>[0]) => {
    using prepared = await vedaAttention({ tileTokens: 4, denseSteps: 0, ...options }).prepare(clip);
    return prepared.report().density;
  };
  const twelve = await densityOf({ keep: 12 / Math.ceil(TOKENS / 4) });
  assert(twelve < 0.5 && await densityOf({}) === twelve && await densityOf({ usualKeep: 0.9 }) > twelve);
});

gpuTest("of tiles for several sizes, those for the nearest are used, and a note says so", async () => {
  const sizes: NonNullable<VedaOptions["sizes"]> = [
    { grid: [3, 10, 12], tileTokens: 4, usualKeep: 0.9 },
    { grid: [3, 5, 5], tileTokens: 4, usualKeep: 0.5, shapes: [1, 2, 2] },
    { grid: [30, 5, 6], shapes: [2, 2, 2] },
  ];
  const prepared = async (options: VedaOptions, grid: Grid = GRID) => {
    const notes: string[] = [], clip = await task(2);
    const layout = { grid, kept: 0 }, onNote = (note: string) => notes.push(note);
    using made = await vedaAttention({ denseSteps: 0, name: "t.safetensors", ...options }).prepare({
      ...clip,
      layout,
      onNote,
    });
    return { density: made.report().density, notes };
  };
  const near = await prepared({ sizes });
  assertEquals(near.density, (await prepared({ tileTokens: 4, usualKeep: 0.5, shapes: [1, 2, 2] })).density);
  assertEquals(near.notes, [
    "the tiles of t.safetensors were made for 3 sizes, of which the nearest is used: for clips of 3x5x5 tokens, and " +
    "this one has 3x5x6",
  ]);
  assertEquals((await prepared({ sizes }, [3, 5, 5])).notes, []);
  assertEquals((await prepared({ sizes: sizes.slice(2) })).notes, [
    "the tiles of t.safetensors were made for clips of 30x5x6 tokens, and this one has 3x5x6",
  ]);
  // A share that is asked for is that of every size.
  assertEquals((await prepared({ sizes, keep: 1 })).density, 1);
  const other: VedaOptions = {
    sizes: [sizes[0]!, { grid: [9, 9, 9], scorer: { ...randomScorer().scorer, heads: 4 } }],
  };
  await assertRejects(
    async () => await vedaHeads(other).check!(CONFIG),
    TilereelError,
    "its scorer is for 2 layers with 4",
  );
});

gpuTest("the rest of tiles is computed from queries and values that nothing wrote over, and not in int8", async () => {
  const clip = await task(2), options = { shapes: SHAPES, keep: KEEP, denseSteps: 0 };
  using without = await vedaAttention({ ...options, rest: false }).prepare(clip);
  using prepared = await vedaAttention({ ...options, rest: true }).prepare(clip);
  assertEquals([typeof without.at(0, 0).consuming, typeof prepared.at(0, 0).consuming], ["function", "undefined"]);
  await clip.gpu.waitingScope(async () => {
    const { numbers, tensors } = operands(clip.gpu), read = (y: Tensor) => clip.gpu.read(y);
    using plain = new VedaAttention(clip.gpu, CONFIG, LAYOUT, { shapes: SHAPES, keep: KEEP });
    const before = await read(wholeAttention(clip.gpu, LAYOUT, plain.some(everyHead(CONFIG)))(...tensors, 0));
    assertEquals(await read(without.at(0, 0)(...tensors, 0)), before);
    const y = await read(prepared.at(0, 0)(...tensors, 0));
    assert(y.some((x, i) => x !== before[i]));
    assertEquals(await read(tensors[0]), numbers[0]);
  });
  const { device, settings } = clip.gpu, int8 = new Gpu(device, { ...settings, int8: true });
  await assertRejects(
    async () => await vedaAttention({ ...options, rest: true }).prepare({ ...clip, gpu: int8 }),
    TilereelError,
    "is not estimated in precision int8",
  );
});

Deno.test("where no share is asked for, small grids keep twelve tiles a row, and all where they have no more", () => {
  assertEquals(defaultKeep(0.5, 512, 32), 0.75);
  assertEquals(defaultKeep(0.5, 2048, 32), 0.5);
  assertEquals(defaultKeep(0.1, 32760, 128), 0.1);
  assertEquals(defaultKeep(0.1, 1537, 128), 12 / 13);
  assertEquals(defaultKeep(0.1, 100, 32), 1);
});

gpuTest("Veda's method refuses what belongs to another model", async () => {
  const refused = async (options: Parameters<typeof vedaHeads>[0], message: string, config = CONFIG, grid = GRID) => {
    const clip = { ...await task(2, config), layout: { grid, kept: 0 } };
    await assertRejects(async () => await vedaHeads(options).prepare(clip), TilereelError, message);
  };
  const { scorer } = randomScorer();
  await refused({ denseLayers: [0, 2] }, "layer 2 cannot be dense: this model has 2 layers, 0 to 1");
  const other = { layers: 2, heads: 4, headDim: 16 };
  await refused(
    { scorer, name: "t.safetensors" },
    "t.safetensors: its scorer is for 2 layers with 3 heads of 16",
    other,
  );
  await refused({ shapes: [1, 1, 1] }, "tiles of 1x1x1 cut 32x16x16 tokens into 8192", CONFIG, [32, 16, 16]);
  await refused({ shapes: SHAPES }, "its shapes of tiles are for 2 layers with 3 heads", other);
});

Deno.test("tiles go through a file and come back as they were", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "tiles.safetensors");
    for (const format of ["F32", "BF16"] as const) {
      const { scorer } = randomScorer(format);
      const whole: VedaFile = { tileTokens: 16, scorer, shapes: SHAPES, target: "sum", keep: 0.25 };
      const terms = { count: true, second: false };
      const termed = { tileTokens: 16, scorer: { ...scorer, terms } };
      const other: VedaFile = { ...termed, grid: [4, 8, 8], keep: 0.5 };
      const budgets = SHAPES.choices.map((choice) => Float32Array.from(choice, (_, head) => 0.5 + head));
      const several: VedaFile = {
        ...{ tileTokens: 16, scorer, grid: [4, 4, 4], shapes: { ...SHAPES, budgets } },
        others: [other, { tileTokens: 16, shapes: SHAPES, grid: [8, 16, 16], target: "max" }],
      };
      for (const file of [whole, several, termed, { tileTokens: 16, scorer }, { tileTokens: 16, shapes: SHAPES }]) {
        await saveVeda(path, file, { note: "of a test" });
        assertEquals(await loadVeda(path), file);
      }
      const named = { ...scorer, layerPrefixes: ["a.0.", "b.0."] };
      await saveVeda(path, { tileTokens: 16, scorer: named });
      assertEquals((await loadVeda(path)).scorer, named);
    }
  }));

Deno.test("files of tiles that lack something are refused by name", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "tiles.safetensors");
    const matrix = (...shape: number[]): TensorToWrite => ({
      dtype: "F32",
      shape,
      data: new Float32Array(shape.reduce((a, b) => a * b)),
    });
    const whole = (): Record<string, TensorToWrite> => ({
      ...Object.fromEntries([0, 1].flatMap((layer) => [
        [projectionName(`blocks.${layer}.`, "q"), matrix(3, 48, 16)],
        [projectionName(`blocks.${layer}.`, "k"), matrix(3, 48, 16)],
      ])),
      "tiles.shapes": { dtype: "I32", shape: [2, 3], data: Int32Array.of(1, 4, 4, 2, 2, 4) },
      "tiles.choices": { dtype: "U8", shape: [2, 3], data: Uint8Array.of(0, 1, 0, 1, 1, 0) },
    });
    const refused = async (
      change: (tensors: Record<string, TensorToWrite>) => void,
      message: string,
      metadata: Record<string, string> = { tiles: '{"tile_tokens":16}' },
    ) => {
      const tensors = whole();
      change(tensors);
      await writeSafetensors(path, tensors, metadata);
      await assertRejects(() => loadVeda(path), TilereelError, message);
    };
    const key = projectionName("blocks.1.", "k");
    await refused(() => {}, "holds no tiles", {});
    await refused((t) => Object.keys(t).forEach((name) => delete t[name]), "holds no tiles");
    await refused(() => {}, "a JSON object was expected", { tiles: "16" });
    await refused(
      (t) => t["tiles.budgets"] = { dtype: "F32", shape: [2, 3], data: Float32Array.of(1, 1, 0, 1, 1, 1) },
      `"tiles.budgets" must be F32 of [2, 3], numbers above 0`,
    );
    await refused(() => {}, 'lacks the tensors "others.0.…"', { tiles: '{"tile_tokens":16,"others":[{}]}' });
    await refused(() => {}, "others is no list", { tiles: '{"tile_tokens":16,"others":3}' });
    await refused(() => {}, "target", { tiles: '{"tile_tokens":16,"target":"mean"}' });
    await refused(() => {}, "a tile of 1x4x4 has 16 tokens, but 32 were expected", { tiles: '{"tile_tokens":32}' });
    await refused((t) => delete t[key], `lacks the tensor "${key}": the highest layer in it is number 1`);
    await refused((t) => t[key] = matrix(3, 48, 8), `"${key}" in ${path} is F32 of the shape [3, 48, 8]`);
    await refused((t) => (t[key]!.data as Float32Array)[7] = Infinity, "not finite");
    await refused((t) => (t["tiles.choices"]!.data as Uint8Array)[2] = 2, "each the number of a shape");
    await refused((t) => (t["tiles.shapes"]!.data as Int32Array)[2] = 0, "numbers of at least 1");
    await refused((t) => delete t["tiles.shapes"], `"tiles.shapes"`);
    await assertRejects(() => loadVeda(join(dir, "none.safetensors")), TilereelError, "does not exist");
  }));
