/** The backward pass of attention by matrix units, against that in f32, which is checked against differences elsewhere. */
import { cutBlocks, type Run, uploadBlockList } from "../../../gpu/attention_plan.ts";
import { Gpu } from "../../../gpu/gpu.ts";
import { blockRows } from "../../../gpu/ops/attention_family.ts";
import { attention, attentionBackward } from "../../../gpu/ops/attention.ts";
import type { AttentionPattern } from "../../../gpu/ops/attention_launch.ts";
import { zeros } from "../../../gpu/ops/elementwise.ts";
import { headDots } from "../../../gpu/ops/head_dots.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";

const BATCH = 2, HEADS = 2, HEAD_DIM = 32, DIM = HEADS * HEAD_DIM, QUERIES = 75, KEYS = 150;
/** Measured: 3.6e-4. */
const BOUND = 1e-3;

const run = (first: number, count: number): Run => ({ first, count });
/** For blocks of slots, the slots that they see: runs that end within a step, one slot, all slots. */
const SEEN: readonly (readonly [Run, readonly Run[]])[] = [
  [run(0, 70), [run(3, 5), run(40, 66), run(149, 1)]],
  [run(70, 1), [run(0, 1), run(71, 70)]],
  [run(71, 79), [run(0, 150)]],
];

/** A plan over all keys, with an order for each batch item and head. */
function plan(gpu: Gpu): AttentionPattern["plan"] {
  const orders = Uint32Array.from({ length: BATCH * HEADS * KEYS }, (_, i) => {
    const list = Math.floor(i / KEYS);
    return (i % KEYS * [1, 7, 11, 13][list]! + list) % KEYS;
  });
  /** The slots that are seen by one, in runs. */
  const seers = (slot: number) =>
    SEEN.filter(([, seen]) => seen.some(({ first, count }) => slot >= first && slot < first + count)).map(([who]) =>
      who
    );
  const list = (entries: readonly (readonly [Run, readonly Run[]])[]) => {
    const runs: Run[] = [];
    const blocks = entries.flatMap(([who, seen]) => {
      runs.push(...seen);
      return cutBlocks(who, blockRows(gpu, HEAD_DIM), runs.length - seen.length, seen.length);
    });
    return uploadBlockList(gpu, blocks, runs);
  };
  const keys = Array.from({ length: KEYS }, (_, slot) => [run(slot, 1), seers(slot)] as const);
  return { order: gpu.upload(orders, [BATCH * HEADS, KEYS], "u32"), queries: list(SEEN), keys: list(keys) };
}

testVariants(
  "gradients of attention by matrix units: all pairs, another number of keys, a plan with orders; scaled heads",
  async ({ gpu }) => {
    const exact = new Gpu(gpu.device, { ...gpu.settings, kernels: "tiled", precision: "f32" });
    for (const [queries, planned] of [[QUERIES, false], [KEYS, true]] as const) {
      const shape = [BATCH, queries, DIM], keyShape = [BATCH, KEYS, DIM];
      const upload = (shape: readonly number[], seed: number, scale = 1) =>
        gpu.upload(randn(shape.reduce((a, b) => a * b), seed, scale), shape);
      // Scores far from zero, and gradients of a size that scaled losses have.
      const q = upload(shape, 1, 2), k = upload(keyShape, 2), v = upload(keyShape, 3), dy = upload(shape, 4, 0.1);
      const pattern: AttentionPattern = { heads: HEADS, plan: planned ? plan(gpu) : undefined };
      const headScale = gpu.upload(randn(BATCH * HEADS, 5), [BATCH, HEADS]);
      const lse = exact.tensor([BATCH, queries, HEADS]), y = attention(exact, q, k, v, { ...pattern, lse });
      const operands = { q, k, v, dy, lse, dotY: headDots(exact, dy, y, HEADS) };
      const into = (gpu: Gpu) => ({ dq: zeros(gpu, shape), dk: zeros(gpu, keyShape), dv: zeros(gpu, keyShape) });
      const found = into(gpu), expected = into(exact);
      attentionBackward(exact, operands, expected, pattern, { headScale });
      // Both record for one device.
      await exact.finish();
      attentionBackward(gpu, operands, found, pattern, { headScale, products: "f16" });
      for (const name of ["dq", "dk", "dv"] as const) {
        assertClose(
          await gpu.read(found[name]),
          await exact.read(expected[name]),
          BOUND,
          `${name}, planned: ${planned}`,
        );
      }
      // Gradients are added to what is there.
      const twice = into(gpu);
      for (let i = 0; i < 2; i++) attentionBackward(gpu, operands, twice, pattern, { headScale, products: "f16" });
      const doubled = (await gpu.read(found.dk)).map((x) => 2 * x);
      assertClose(await gpu.read(twice.dk), doubled, 1e-6, "added twice");
    }
  },
  ({ name }) => name === "matrix f16",
);
