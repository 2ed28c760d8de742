import type { HeadShape } from "../attention/layout.ts";
import type { PassName } from "../guidance.ts";
import type { CacheHooks, CacheReport, PreparedCache, SparedWork } from "./step_cache.ts";

/** What was spared in several passes together. */
export function totalSpared(passes: Iterable<SparedWork>): SparedWork {
  const total = { steps: 0, blocks: 0, attentions: 0 };
  for (const { steps, blocks, attentions } of passes) {
    total.steps += steps;
    total.blocks += blocks;
    total.attentions += attentions;
  }
  return total;
}

/** Passes hooks on to a step cache, and counts the computations that it saves. */
export class CountedCache {
  readonly #spared = new Map<PassName, { -readonly [Count in keyof SparedWork]: number }>();

  constructor(private readonly cache: PreparedCache, private readonly shape: Pick<HeadShape, "layers">) {}

  /** The computations that were saved so far. */
  get report(): CacheReport {
    return this.#spared;
  }

  /** As {@link PreparedCache.at}. */
  at(step: number, pass: PassName): CacheHooks {
    const { layers } = this.shape, hooks = this.cache.at(step, pass);
    const spared = this.#spared.get(pass) ?? { steps: 0, blocks: 0, attentions: 0 };
    this.#spared.set(pass, spared);
    return {
      velocity: async (latents) => {
        const velocity = await hooks.velocity?.(latents);
        if (velocity) {
          spared.steps++;
          spared.blocks += layers;
        }
        return velocity;
      },
      predicted: (latents, velocity) => hooks.predicted?.(latents, velocity),
      remaining: async (state) => {
        const result = await hooks.remaining?.(state);
        if (result) spared.blocks += layers - state.layer;
        return result;
      },
      // Absent where the cache has none: a module's output is otherwise fused with its gate and residual.
      ...hooks.attention && {
        attention: (layer, module, compute) => {
          let computed = false;
          const output = hooks.attention!(layer, module, () => {
            computed = true;
            return compute();
          });
          if (!computed) spared.attentions++;
          return output;
        },
      },
    };
  }
}
