import { assertEquals } from "@std/assert";
import { fuzz } from "../../tools/fuzz/fuzz.ts";
import { TARGETS } from "../../tools/fuzz/targets.ts";
import { WatchedCases } from "../../tools/fuzz/watch.ts";

/** Cases of each target. `deno task fuzz` runs more. */
const CASES = 200;
/** Use of processors' time and memory is read from /proc. */
const ignore = Deno.build.os !== "linux";

Deno.test({
  name: "mutated inputs are read or refused in one sentence, in 5 seconds and 1 GiB",
  ignore,
  fn: async (t) => {
    await using cases = await WatchedCases.open();
    for (const name of Object.keys(TARGETS)) {
      await t.step(name, async () => {
        const { counts, found } = await fuzz(name, { cases: CASES, seed: 22 }, cases);
        assertEquals(found, []);
        assertEquals(counts.read + counts.refused, CASES);
        // Mutations that are too wild find nothing.
        assertEquals(counts.read > 0, true, JSON.stringify(counts));
      });
    }
  },
});

Deno.test({
  name: "inputs at the edges of what is possible are refused in one sentence, in 5 seconds and 1 GiB",
  ignore,
  fn: async (t) => {
    await using cases = await WatchedCases.open();
    for (const [target, { extremes = {} }] of Object.entries(TARGETS)) {
      for (const extreme of Object.keys(extremes)) {
        await t.step(`${target}: ${extreme}`, async () => {
          const [result] = await Array.fromAsync(cases.run({ target, seed: 0, from: 0, to: 1, extreme }));
          assertEquals(result?.ending, "refused", result?.says);
        });
      }
    }
  },
});
