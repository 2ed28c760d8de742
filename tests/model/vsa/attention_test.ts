import type { AttentionTask } from "../../../model/attention/method.ts";
import { VsaAttention } from "../../../model/vsa/attention.ts";
import { distilledAttention, vsaAttention } from "../../../model/vsa/methods.ts";
import { WAN } from "../../../model/wan/family.ts";
import { assertEquals, assertThrows } from "@std/assert";
import { assertClose, plainOnly, randn, testVariants } from "../../gpu.ts";
import { vsaReference } from "./reference.ts";

const BATCH = 2, HEADS = 3, HEAD_DIM = 32, SPARSITY = 0.7;

testVariants(
  "VSA: partial tiles, batches, and kept tokens with padding, with gates and without",
  async ({ gpu, bound }) => {
    for (const [kept, length] of [[0, 0], [7, 5]] as const) {
      const layout = { grid: [3, 6, 9], kept, length } as const, tokens = 3 * 6 * 9 + kept, dim = HEADS * HEAD_DIM;
      const [q, k, v, gate] = [1, 2, 3, 4].map((seed) => randn(BATCH * tokens * dim, seed + 10 * kept));
      const sizes = { layout, batch: BATCH, heads: HEADS, headDim: HEAD_DIM, sparsity: SPARSITY };
      using attention = new VsaAttention(gpu, { heads: HEADS, headDim: HEAD_DIM }, layout, SPARSITY);
      const on = [q, k, v, gate].map((x) => gpu.upload(x!, [BATCH, tokens, dim]));
      for (const gated of [true, false]) {
        const y = attention.attend(on[0]!, on[1]!, on[2]!, gated ? on[3] : undefined);
        const expected = vsaReference(q!, k!, v!, gated ? gate : undefined, sizes);
        assertClose(await gpu.read(y), expected, bound, `${kept} kept, gate ${gated}`);
        gpu.release(y);
      }
      for (const tensor of on) gpu.release(tensor);
    }
  },
);

testVariants("VSA as a method: density, why it is full, and what it notes", async ({ gpu }) => {
  const told: string[] = [];
  const prepare = (method: ReturnType<typeof vsaAttention>, gated: boolean, grid: [number, number, number]) =>
    method.prepare(
      {
        ...{ gpu, shape: { layers: 2, heads: 2, headDim: 16, gated }, layout: { grid, kept: 0 }, lengths: [0, 0] },
        ...{ timesteps: [900, 400], onNote: (note: string) => told.push(note) },
        timeEmbedding: () => Promise.reject(new Error("it is not needed")),
      } satisfies AttentionTask,
    );
  const report = async (sparsity: number, grid: [number, number, number]) => {
    using prepared = await prepare(vsaAttention({ sparsity }), true, grid);
    return prepared.report();
  };
  // 16 tiles; of the last, ⌈0.2 · 16⌉ = 4 are kept.
  assertEquals(await report(0.8, [8, 8, 16]), { density: 0.25 });
  assertEquals(await report(1, [8, 8, 16]), { density: 1 / 16 });
  assertEquals(await report(0, [8, 8, 16]), { density: 1, whyFull: "a sparsity of 0 was requested" });
  assertEquals(await report(0.8, [4, 4, 4]), {
    density: 1,
    whyFull: "a clip of 64 tokens has only 1 tile of 64, too few to leave one out",
  });
  assertEquals(told, []);
  (await prepare(vsaAttention(), false, [4, 4, 4]))[Symbol.dispose]();
  assertEquals(told.splice(0), [
    "this model has no gates (to_gate_compress) for video sparse attention, so the part of it that attends to the " +
    "means of tiles is left out",
  ]);
  (await prepare(distilledAttention(WAN.distilled!.WanDMDPipeline)!, true, [4, 4, 4]))[Symbol.dispose]();
  assertEquals(told, [
    "FastWan was trained with video sparse attention at a sparsity of 0.8, which is used because no other attention " +
    "was asked for",
  ]);
  assertThrows(() => vsaAttention({ sparsity: 1.5 }), Error, "vsaAttention: sparsity is 1.5, but a number from 0 to 1");
}, plainOnly);
