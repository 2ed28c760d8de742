import type { HeadShape } from "../attention/layout.ts";
import type { PassName } from "../guidance.ts";
import type { CacheHooks, CacheReport, CacheStart, KeptByCache, PreparedCache, SparedWork } from "./step_cache.ts";

/** The counts, as a name begins that is kept. */
const SPARED = "spared";

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

  /** @param from what {@link kept} was, if the clip goes on */
  constructor(
    private readonly cache: PreparedCache,
    private readonly shape: Pick<HeadShape, "layers">,
    from?: CacheStart,
  ) {
    for (const [key, count] of Object.entries(from?.numbers ?? {})) {
      const [first, pass, what] = key.split(".") as [string, PassName, keyof SparedWork];
      if (first === SPARED) this.#of(pass)[what] = count;
    }
  }

  /** The computations that were saved so far. */
  get report(): CacheReport {
    return this.#spared;
  }

  /** What the cache and the counts are between two steps; undefined where the cache keeps too much. */
  kept(): KeptByCache | undefined {
    const kept = this.cache.kept?.();
    const counts = [...this.#spared].flatMap(([pass, spared]) =>
      Object.entries(spared).map(([what, count]) => [`${SPARED}.${pass}.${what}`, count] as const)
    );
    return kept && {
      tensors: kept.tensors,
      numbers: kept.numbers.then((numbers) => ({ ...numbers, ...Object.fromEntries(counts) })),
    };
  }

  #of(pass: PassName): { -readonly [Count in keyof SparedWork]: number } {
    const spared = this.#spared.get(pass) ?? { steps: 0, blocks: 0, attentions: 0 };
    this.#spared.set(pass, spared);
    return spared;
  }

  /** As {@link PreparedCache.at}. */
  at(step: number, pass: PassName): CacheHooks {
    const { layers } = this.shape, hooks = this.cache.at(step, pass), spared = this.#of(pass);
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
