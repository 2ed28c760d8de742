/**
 * Every forward kernel that the adapter can run, also those that no trial has picked: over a plan with all that plans
 * may have, for some of the heads.
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import { cutBlocks, type Run, uploadBlockList } from "../../../gpu/attention_plan.ts";
import { forwardRows, type ForwardVariant } from "../../../gpu/kernels/attention/variants.ts";
import { smallPanels } from "../../../gpu/kernels/gemm/panel_variants.ts";
import { formsOf } from "../../../gpu/kernels/gemm/variants.ts";
import { GEMM } from "../../../gpu/ops/gemm.ts";
import { PackedOperand } from "../../../gpu/ops/packed_operand.ts";
import { forwardFamily } from "../../../gpu/ops/attention_family.ts";
import { packsHalves, runForward } from "../../../gpu/ops/attention_forward.ts";
import { packHalves } from "../../../gpu/ops/pack_halves.ts";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { assertClose, exceptPlain, randn, testVariants } from "../../gpu.ts";
import { attend, logSums, type Reference } from "../../reference_attention.ts";

const BATCH = 2, HEADS = 3, TOKENS = 150, HEAD_DIM = 16, ONLY = [2, 0];

/** Slots of queries with the slots of keys they see: runs that end within a step, an empty one, one key, all. */
const SEEN: readonly (readonly [Run, readonly Run[]])[] = [
  [
    { first: 0, count: 70 },
    [[3, 5], [20, 0], [40, 66], [106, 0], [149, 1]].map(([first, count]) => run(first!, count!)),
  ],
  [{ first: 70, count: 1 }, [run(0, 1)]],
  [{ first: 71, count: 79 }, [run(0, 150)]],
];

function run(first: number, count: number): Run {
  return { first, count };
}

/** For normally distributed queries, keys and values. Measured: 0.9e-2 */
const INT8_BOUND = 2e-2;

/** Kernels that were tested: what one device runs in f32 another need not run again. */
const tested = new Set<string>();

/** An order for each batch item and head. */
function orders(): Uint32Array {
  return Uint32Array.from({ length: BATCH * HEADS * TOKENS }, (_, i) => {
    const list = Math.floor(i / TOKENS);
    return (i % TOKENS * [1, 7, 11, 13, 17, 19][list]! + list) % TOKENS;
  });
}

/** Checks all variants, for some heads: the outputs and the log-sums. */
async function follows(gpu: Gpu, names: ReadonlyMap<string, ForwardVariant>, spread: number, bound: number) {
  const dim = HEADS * HEAD_DIM, order = orders();
  // f16 holds queries and keys as they are, so that scores may be large, and rise far above those of the first steps.
  const eighths = (x: Float32Array) => x.map((value) => Math.round(8 * value) / 8);
  const q = eighths(randn(BATCH * TOKENS * dim, 1, spread)), k = eighths(randn(BATCH * TOKENS * dim, 2));
  const v = randn(BATCH * TOKENS * dim, 3);
  const slots = Array.from({ length: BATCH * HEADS }, (_, list) => {
    const slot = new Uint32Array(TOKENS);
    order.subarray(list * TOKENS, (list + 1) * TOKENS).forEach((token, at) => slot[token] = at);
    return slot;
  });
  const inside = ({ first, count }: Run, slot: number) => slot >= first && slot < first + count;
  const r: Reference = {
    ...{ batch: BATCH, queries: TOKENS, keys: TOKENS, heads: HEADS, headDim: HEAD_DIM },
    sees: (b, h, i, j) => {
      const slot = slots[b * HEADS + h]!;
      return SEEN.some(([queries, keys]) => inside(queries, slot[i]!) && keys.some((run) => inside(run, slot[j]!)));
    },
  };
  const y = attend(q, k, v, r), lse = logSums(q, k, r);
  const chosen = (at: number, each: number) => ONLY.includes(Math.floor(at / each) % HEADS);
  const tensors = [q, k, v].map((x) => gpu.upload(x, [BATCH, TOKENS, dim]));
  const only = gpu.upload(Uint32Array.from(ONLY), [ONLY.length], "u32");
  for (const [name, forward] of names) {
    if (tested.has(name)) continue;
    tested.add(name);
    const runs = SEEN.flatMap(([, runs]) => runs);
    let firstRun = 0;
    const blocks = SEEN.flatMap(([queries, { length }]) => {
      firstRun += length;
      return cutBlocks(queries, forwardRows(forward, HEAD_DIM), firstRun - length, length);
    });
    const plan = {
      order: gpu.upload(order, [BATCH * HEADS, TOKENS], "u32"),
      queries: uploadBlockList(gpu, blocks, runs),
    };
    const out = { y: gpu.tensor([BATCH, TOKENS, dim]), lse: gpu.tensor([BATCH, TOKENS, HEADS]) };
    const [tq, tk, tv] = tensors;
    runForward(gpu, forward, { heads: HEADS, plan, only }, { q: tq!, k: tk!, v: tv!, ...out });
    for (const [found, expected, each] of [[out.y, y, HEAD_DIM], [out.lse, lse, 1]] as const) {
      const numbers = await gpu.read(found);
      assert(numbers.every((x, at) => chosen(at, each) || Number.isNaN(x)), `${name} writes other heads`);
      const computed = (_: number, at: number) => chosen(at, each);
      assertClose(numbers.filter(computed), expected.filter(computed), bound, name);
    }
  }
}

testVariants(
  "every forward variant of attention follows a plan, for some heads, with their log-sums",
  async ({ gpu, bound }) => {
    const names = forwardFamily({ headDim: HEAD_DIM, plan: true }).variants(gpu);
    assertEquals(gpu.matrixUnits !== undefined, [...names.keys()].some((name) => name.startsWith("matrix")));
    await follows(gpu, names, 8, 2 * bound);
  },
  exceptPlain,
);

testVariants(
  "so does every variant in int8",
  async ({ gpu }) => {
    await follows(gpu, forwardFamily({ headDim: HEAD_DIM, plan: true, int8: true }).variants(gpu), 1, INT8_BOUND);
  },
  exceptPlain,
);

testVariants("in every forward variant, the last key stands for several", async ({ name: kind, gpu, bound }) => {
  const [queries, last] = [37, 448], dim = HEADS * HEAD_DIM;
  const names = forwardFamily({ headDim: HEAD_DIM, plan: false }).variants(gpu);
  const forwards: [string, ForwardVariant | undefined][] = kind === "plain" ? [["plain", undefined]] : [...names];
  // The last step is partly filled, and full.
  for (const keys of [1, 41, 64]) {
    const q = randn(queries * dim, 1, 2), k = randn(keys * dim, 2), v = randn(keys * dim, 3);
    const repeated = (x: Float32Array) => {
      const all = new Float32Array((keys + last - 1) * dim);
      all.set(x);
      for (let key = keys; key < keys + last - 1; key++) all.set(x.subarray((keys - 1) * dim), key * dim);
      return all;
    };
    const r: Reference = { batch: 1, queries, keys: keys + last - 1, heads: HEADS, headDim: HEAD_DIM };
    const [ry, rlse] = [attend(q, repeated(k), repeated(v), r), logSums(q, repeated(k), r)];
    const tensors = { q: gpu.upload(q, [1, queries, dim]), k: gpu.upload(k, [1, keys, dim]) };
    for (const [name, forward] of forwards) {
      const y = gpu.tensor([1, queries, dim]), lse = gpu.tensor([1, queries, HEADS]);
      const values = gpu.upload(v, [1, keys, dim]);
      runForward(gpu, forward, { heads: HEADS }, { ...tensors, v: values, y, lse, lastKeys: last });
      assertClose(await gpu.read(y), ry, 4 * bound, `${name}, ${keys} keys`);
      assertClose(await gpu.read(lse), rlse, 4 * bound, `${name}, ${keys} keys, log-sums`);
    }
  }
});

testVariants("kernels of every kind write over queries, and take values in f16, bit for bit", async ({ name, gpu }) => {
  const [heads, headDim, tokens] = [2, 16, 75], dim = heads * headDim, all = run(0, tokens);
  const [q, k, v] = [1, 2, 3].map((seed) => gpu.upload(randn(tokens * dim, seed), [1, tokens, dim]));
  const order = gpu.upload(Uint32Array.from({ length: tokens }, (_, i) => i * 7 % tokens), [1, tokens], "u32");
  const families = [false, true].map((int8) => forwardFamily({ headDim, plan: true, int8 }).variants(gpu));
  // Variants of a kind differ in their tiles alone.
  const kinds = new Map<string, ForwardVariant | undefined>();
  for (const [, forward] of name === "plain" ? [] : families.flatMap((found) => [...found])) {
    const { kernel, tile } = forward;
    kinds.set(`${kernel} ${kernel === "matrix" ? tile.sums : kernel === "tiled" ? tile.f16 : ""}`, forward);
  }
  for (const [kind, forward] of name === "plain" ? [["plain", undefined] as const] : kinds) {
    const queries = uploadBlockList(gpu, cutBlocks(all, forwardRows(forward, headDim), 0, 1), [all]);
    const pattern = { heads, plan: { order, queries } };
    const y = gpu.tensor([1, tokens, dim]), over = gpu.tensor([1, tokens, dim]);
    runForward(gpu, forward, pattern, { q: q!, k: k!, v: v!, y });
    const expected = await gpu.readBytes(y);
    gpu.copy(q!, over);
    runForward(gpu, forward, pattern, { q: over, k: k!, v: v!, y: over });
    assertEquals(await gpu.readBytes(over), expected, kind);
    const halves = { q: q!, k: k!, v: packHalves(gpu, v!), y: gpu.tensor([1, tokens, dim]) };
    if (packsHalves(forward)) {
      runForward(gpu, forward, pattern, halves);
      assertEquals(await gpu.readBytes(halves.y), expected, kind);
    } else assertThrows(() => runForward(gpu, forward, pattern, halves), Error, "take no values in f16");
  }
});

testVariants("kernels for matrix units write what products read, bit for bit", async ({ gpu }) => {
  const [heads, headDim, tokens] = [2, 16, 75], dim = heads * headDim;
  const [q, k, v] = [1, 2, 3].map((seed) => gpu.upload(randn(tokens * dim, seed), [1, tokens, dim]));
  // Products of many rows read other panels than those of a few.
  const [large] = GEMM.variants(gpu).values();
  for (const [plan, panels] of [[false, large], [true, smallPanels(gpu, "f16")]] as const) {
    const form = formsOf(gpu, panels).x!;
    for (const [name, forward] of forwardFamily({ headDim, plan }).variants(gpu)) {
      if (forward.kernel !== "matrix") continue;
      const rows = forwardRows(forward, headDim), all = run(0, tokens);
      const order = gpu.upload(Uint32Array.from({ length: tokens }, (_, i) => i * 7 % tokens), [1, tokens], "u32");
      const pattern = {
        heads,
        ...plan && { plan: { order, queries: uploadBlockList(gpu, cutBlocks(all, rows, 0, 1), [all]) } },
      };
      const tensors = { q: q!, k: k!, v: v! }, plain = gpu.tensor([1, tokens, dim]);
      runForward(gpu, forward, pattern, { ...tensors, y: plain });
      const y = PackedOperand.empty(gpu, [1, tokens, dim], form);
      runForward(gpu, forward, pattern, { ...tensors, y });
      const found = await gpu.readBytes(y.unpacked(gpu));
      assertEquals(found, await gpu.readBytes(PackedOperand.of(gpu, plain, form).unpacked(gpu)), name);
    }
  }
}, ({ gpu }) => gpu.matrixUnits !== undefined);
