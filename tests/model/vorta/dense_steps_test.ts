import { assertAlmostEquals, assertEquals } from "@std/assert";
import { BRANCHES } from "../../../model/vorta/branch.ts";
import { routedAttention } from "../../../model/vorta/methods.ts";
import { Router } from "../../../model/vorta/router.ts";
import { defaultSettings } from "../../../model/vorta/settings.ts";
import { vedaHeads } from "../../../model/veda/methods.ts";
import { plainOnly, randn, testVariants } from "../../gpu.ts";

const FULL = BRANCHES.indexOf("full");

testVariants("dense first steps: all heads are full in them, and the other steps are as routed", async ({ gpu }) => {
  const shape = { layers: 3, heads: 8, headDim: 16 }, dim = shape.heads * shape.headDim;
  const task = {
    ...{ gpu, shape, layout: { grid: [4, 6, 6] as const, kept: 0 }, lengths: [0], timesteps: [900, 700, 400, 100] },
    timeEmbedding: (of: readonly number[]) => Promise.resolve(randn(of.length * dim, 4, 30)),
  };
  const router = Router.random({ layers: shape.layers, heads: shape.heads, dim }, 3);
  const report = async (denseSteps: number, full?: ReturnType<typeof vedaHeads>) => {
    const method = routedAttention({ router, settings: defaultSettings, tau: 0.4, denseSteps, ...full && { full } });
    using prepared = await method.prepare(task);
    const { routes, ...others } = prepared.report();
    return { ...others, routes: routes!.map((layers) => layers.map((heads) => [...heads])) };
  };
  const [routed, dense, all] = [await report(0), await report(2), await report(5)];
  assertEquals([routed.dense, dense.dense, all.dense], [undefined, { steps: 2, layers: 0 }, { steps: 4, layers: 0 }]);
  assertEquals(dense.routes.slice(0, 2).flat(2).every((branch) => branch === FULL), true);
  assertEquals(dense.routes.slice(2), routed.routes.slice(2));
  assertEquals([all.density, all.whyFull], [1, "the first 5 steps are dense, and the clip has only 4"]);
  // By default, the share of the steps that the router's file says for the nearest size, rounded down.
  const byShare = async (denseShare: number, full?: ReturnType<typeof vedaHeads>) => {
    const sizes = [{ grid: [9, 9, 9] as const, router, denseShare: 1 }, {
      grid: [4, 6, 6] as const,
      router,
      denseShare,
    }];
    const method = routedAttention({ router, sizes, settings: defaultSettings, tau: 0.4, ...full && { full } });
    using prepared = await method.prepare(task);
    return prepared.report().dense?.steps;
  };
  assertEquals([await byShare(0), await byShare(0.24), await byShare(0.25), await byShare(0.99)], [
    undefined,
    undefined,
    1,
    3,
  ]);
  // Full heads by another method have nothing to do with steps that are dense.
  const veda = vedaHeads({ keep: 0.25, denseSteps: 0, tileTokens: 8 });
  assertAlmostEquals((await report(4, veda)).density, 1);
  assertEquals(await byShare(0.5, veda), undefined);
}, plainOnly);
