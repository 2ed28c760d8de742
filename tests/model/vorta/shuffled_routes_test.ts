import { assert, assertEquals } from "@std/assert";
import type { AttentionTask } from "../../../model/attention/method.ts";
import { routedAttention } from "../../../model/vorta/methods.ts";
import { Router } from "../../../model/vorta/router.ts";
import { defaultSettings } from "../../../model/vorta/settings.ts";
import { plainOnly, randn, testVariants } from "../../gpu.ts";

testVariants("shuffled routes send as many heads to each branch, but others", async ({ gpu }) => {
  const shape = { layers: 3, heads: 8, headDim: 16 },
    dim = shape.heads * shape.headDim,
    timesteps = [900, 700, 400, 100];
  const task: AttentionTask = {
    ...{ gpu, shape, layout: { grid: [4, 6, 6], kept: 0 }, lengths: [0], timesteps },
    timeEmbedding: (of) => Promise.resolve(randn(of.length * dim, 4, 30)),
  };
  const router = Router.random({ layers: shape.layers, heads: shape.heads, dim }, 3);
  const report = async (shuffled: boolean) => {
    using prepared = await routedAttention({ router, settings: defaultSettings, tau: 0.4, shuffled }).prepare(task);
    const { density, routes } = prepared.report();
    return { density, routes: routes!.map((layers) => layers.map((heads) => [...heads])) };
  };
  const [routed, shuffled] = [await report(false), await report(true)];
  assert(Math.abs(routed.density - shuffled.density) < 1e-12);
  assertEquals(shuffled.routes.flat(2).sort(), routed.routes.flat(2).sort());
  assert(shuffled.routes.flat(2).some((route, i) => route !== routed.routes.flat(2)[i]));
  assertEquals(await report(true), shuffled);
}, plainOnly);
