import { assert, assertAlmostEquals, assertEquals, assertNotEquals } from "@std/assert";
import { flowShift } from "../../../model/schedulers/sigmas.ts";
import { randomBits, randomUniform, shuffledRounds } from "../../../model/training/random.ts";
import { drawInterval, drawTimestep, type LossWeights, lossWeights, noiseSeed } from "../../../model/vorta/recipe.ts";

Deno.test("stateless random numbers: uniform, and different for every word", () => {
  // MurmurHash3_x86_32 of the 4 bytes ff ff ff ff with seed 0, from its author's test vectors.
  assertEquals(randomBits(0xffffffff), 0x76293b50);
  assertEquals(randomBits(), 0);
  const count = 20_000, bins = new Array<number>(10).fill(0);
  for (let i = 0; i < count; i++) bins[Math.floor(10 * randomUniform(5, 2, i))]!++;
  // Five standard deviations.
  for (const bin of bins) assert(Math.abs(bin - count / 10) < 5 * Math.sqrt(count * 0.1 * 0.9), `${bins}`);
  const seen = new Set([[1, 2, 3], [3, 2, 1], [1, 2], [1, 2, 3, 0], [1, 3, 2]].map((words) => randomBits(...words)));
  assertEquals(seen.size, 5);
});

Deno.test("every round has each index once, in an order of its own", () => {
  const at = shuffledRounds(7, 42);
  const rounds = [0, 1, 2].map((round) => Array.from({ length: 7 }, (_, i) => at(7 * round + i)));
  for (const round of rounds) assertEquals([...round].sort(), [0, 1, 2, 3, 4, 5, 6]);
  assertNotEquals(rounds[0], rounds[1]);
  // Asked for out of order, and by another function.
  assertEquals(shuffledRounds(7, 42)(9), rounds[1]![2]);
  assertEquals(at(3), rounds[0]![3]);
  assertNotEquals(Array.from({ length: 7 }, (_, i) => shuffledRounds(7, 43)(i)), rounds[0]);
  assertEquals([0, 1, 2].map(shuffledRounds(1, 1)), [0, 0, 0]);
});

Deno.test("timesteps of a step share an interval, and cover it", () => {
  const intervals = new Set<number>();
  for (let step = 1; step <= 200; step++) {
    const interval = drawInterval(3, step, 5);
    intervals.add(interval);
    for (let batch = 0; batch < 4; batch++) {
      const t = drawTimestep(3, step, batch, interval, { intervals: 5 });
      // u in [i/5, (i+1)/5) and t = 1000 − floor(1000 u).
      assert(Number.isInteger(t) && t <= 1000 - 200 * interval && t > 800 - 200 * interval, `${t} of ${interval}`);
    }
  }
  assertEquals([...intervals].sort(), [0, 1, 2, 3, 4]);
  const drawn = Array.from({ length: 4000 }, (_, batch) => drawTimestep(1, 1, batch, 4, { intervals: 5 }));
  assertEquals([Math.min(...drawn), Math.max(...drawn)], [1, 200]);
  assert(Math.abs(drawn.reduce((a, b) => a + b) / 4000 - 100.5) < 5 * 57.7 / Math.sqrt(4000));
  // With a shift, those of the same random numbers in a shifted schedule: 200 becomes 600/1.4.
  const shifted = drawn.map((_, batch) => drawTimestep(1, 1, batch, 4, { intervals: 5, shift: 3 }));
  assertEquals(Math.max(...shifted), 429);
  for (const [i, t] of shifted.entries()) assertAlmostEquals(t, 1000 * flowShift(drawn[i]! / 1000, 3), 4);
  const seeds = [noiseSeed(1, 1, 0), noiseSeed(1, 1, 1), noiseSeed(1, 2, 0), noiseSeed(2, 1, 0)];
  assertEquals(new Set(seeds).size, 4);
});

Deno.test("loss weights in the last interval are those of the authors' code", () => {
  const weights = { diffusion: 1, regularization: 0.02, distillation: 20, hidden: 0 };
  const cases: [LossWeights, number, number, LossWeights][] = [
    [weights, 1000, 5, weights],
    [weights, 200, 5, weights],
    [weights, 199, 5, { ...weights, diffusion: 0, distillation: 40 }],
    [weights, 1, 5, { ...weights, diffusion: 0, distillation: 40 }],
    [weights, 199, 10, weights],
    [weights, 99, 10, { ...weights, diffusion: 0, distillation: 40 }],
    [{ ...weights, hidden: 2 }, 10, 5, { diffusion: 0, regularization: 0.02, distillation: 30, hidden: 3 }],
    [{ ...weights, diffusion: 0 }, 10, 5, { ...weights, diffusion: 0 }],
    // The authors' code divides by zero here.
    [{ ...weights, distillation: 0 }, 10, 5, { ...weights, distillation: 0 }],
  ];
  for (const [given, timestep, intervals, expected] of cases) {
    assertEquals(lossWeights(given, timestep, intervals), expected, `${timestep} of ${intervals}`);
  }
});
