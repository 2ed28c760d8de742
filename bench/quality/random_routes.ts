/**
 * Routes without sense, for comparison with a router's.
 *
 * @module
 */
import type { AttentionMethod } from "../../model/attention/method.ts";
import { Passes } from "../../model/attention/passes.ts";
import { VortaAttention } from "../../model/vorta/attention.ts";
import { defaultSettings, type VortaSettings } from "../../model/vorta/settings.ts";

/**
 * The routes of `like`, dealt out anew over steps, layers and heads: so many heads on each branch, of the same
 * density.
 */
export function randomRoutes(like: AttentionMethod, settings: VortaSettings | undefined): AttentionMethod {
  return {
    async prepare(task) {
      using model = await like.prepare(task);
      const { density, routes } = model.report();
      if (!routes) throw new Error("only routed attention has routes");
      const dealt = shuffled(routes.flatMap((layers) => layers.flatMap((heads) => [...heads])));
      const mixed = routes.map((layers) => layers.map((heads) => Uint8Array.from(dealt.splice(0, heads.length))));
      const { gpu, shape } = task, sizes = settings ?? defaultSettings(task.layout.grid);
      const passes = new Passes(task, (layout) => new VortaAttention(gpu, shape, layout, sizes));
      return {
        at: (step, pass) => passes.of(pass).routed(mixed[step]!),
        report: () => ({ density, routes: mixed }),
        [Symbol.dispose]: () => passes[Symbol.dispose](),
      };
    },
  };
}

/** Fisher and Yates's shuffle; the same every time. */
function shuffled<T>(items: T[]): T[] {
  let state = 1;
  for (let i = items.length - 1; i > 0; i--) {
    state = Math.imul(state, 1664525) + 1013904223 >>> 0;
    const j = Math.floor(state / 2 ** 32 * (i + 1));
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
  return items;
}
