import type { AttentionMethod } from "../../model/attention/method.ts";
import { Passes } from "../../model/attention/passes.ts";
import { VortaAttention } from "../../model/vorta/attention.ts";
import { shuffledRounds } from "../../model/training/random.ts";
import { defaultSettings, type VortaSettings } from "../../model/vorta/settings.ts";

/** The routes of `like`, shuffled over steps, layers and heads: branches have as many heads, and density is equal. */
export function randomRoutes(like: AttentionMethod, settings: VortaSettings | undefined): AttentionMethod {
  return {
    async prepare(task) {
      using model = await like.prepare(task);
      const { density, routes } = model.report();
      if (!routes) throw new Error("only routed attention has routes");
      const all = routes.flatMap((layers) => layers.flatMap((heads) => [...heads])),
        draw = shuffledRounds(all.length, 1);
      let next = 0;
      const mixed = routes.map((layers) => layers.map((heads) => heads.map(() => all[draw(next++)]!)));
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
