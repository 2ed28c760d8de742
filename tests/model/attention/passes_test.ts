import { assert, assertEquals } from "@std/assert";
import { fullAttention } from "../../../model/attention/full.ts";
import type { AttentionMethod, AttentionTask } from "../../../model/attention/method.ts";
import { vedaAttention, vedaHeads } from "../../../model/veda/methods.ts";
import { vsaAttention } from "../../../model/vsa/methods.ts";
import { routedAttention, singleBranch } from "../../../model/vorta/methods.ts";
import { Router } from "../../../model/vorta/router.ts";
import { defaultSettings } from "../../../model/vorta/settings.ts";
import { plainOnly, randn, testVariants } from "../../gpu.ts";

const SHAPE = { layers: 1, heads: 2, headDim: 16, ownKeys: true }, LAYOUT = { grid: [4, 6, 6], kept: 6 } as const;

const METHODS: Record<string, AttentionMethod> = {
  full: fullAttention,
  sliding: singleBranch("sliding", defaultSettings),
  coreset: singleBranch("coreset", defaultSettings),
  routed: routedAttention({
    router: Router.random({ layers: 1, heads: SHAPE.heads, dim: SHAPE.heads * SHAPE.headDim }, 3),
    settings: defaultSettings,
    full: vedaHeads({ keep: 0.3, shapes: [2, 3, 3], denseSteps: 0 }),
  }),
  veda: vedaAttention({ keep: 0.3, shapes: [2, 3, 3], denseSteps: 0 }),
  vsa: vsaAttention({ sparsity: 0.5 }),
};

testVariants("the passes of a step may differ in their number of valid tokens", async ({ gpu }) => {
  const tokens = 4 * 6 * 6 + LAYOUT.kept, dim = SHAPE.heads * SHAPE.headDim;
  const [q, k, v] = [1, 2, 3].map((seed) => gpu.upload(randn(tokens * dim, seed), [1, tokens, dim]));
  const task = (...lengths: number[]): AttentionTask => ({
    ...{ gpu, shape: SHAPE, layout: LAYOUT, lengths, timesteps: [900] },
    timeEmbedding: () => Promise.resolve(randn(dim, 4, 30)),
  });
  void gpu.placeholder; // made on first use, and kept
  for (const [name, method] of Object.entries(METHODS)) {
    const used = gpu.memory.used;
    const both = await method.prepare(task(4, 6, 4)),
      alone = [await method.prepare(task(4)), await method.prepare(task(6))];
    const read = async (pass: number, of = both) => {
      const y = gpu.scope(() => of.at(0, pass)(q!, k!, v!, 0));
      const numbers = await gpu.read(y);
      gpu.release(y);
      return numbers;
    };
    const [short, long] = [await read(0), await read(1)];
    assertEquals(short, await read(0, alone[0]), name);
    assertEquals(long, await read(0, alone[1]), name);
    assertEquals(short, await read(2), name);
    assert(short.subarray(-2 * dim).every((x) => x === 0) && long.subarray(-2 * dim).every((x) => x !== 0), name);
    // Density is that of all pairs.
    const pairs = (length: number) => (4 * 6 * 6 + length) ** 2;
    const density = (2 * pairs(4) * alone[0]!.report().density + pairs(6) * alone[1]!.report().density) /
      (2 * pairs(4) + pairs(6));
    assert(Math.abs(both.report().density - density) < 1e-12 && density <= 1, name);
    for (const prepared of [both, ...alone]) prepared[Symbol.dispose]();
    assertEquals(gpu.memory.used, used, `${name} leaves nothing behind`);
  }
}, plainOnly);
