/**
 * FirstBlockCache: the change that the first block makes decides whether the other blocks are run. It was published
 * with ParaAttention; diffusers has it as `FirstBlockCacheConfig`.
 *
 * @module
 */
import { combine } from "../../gpu/ops/combine.ts";
import { meanDistance } from "../../gpu/ops/mean_distance.ts";
import { AddedByBlocks, perPass } from "./pass_state.ts";
import type { StepCache } from "./step_cache.ts";

/** The default threshold. */
export const DEFAULT_THRESHOLD = 0.05;

/** Settings of FirstBlockCache. */
export interface FirstBlockOptions {
  /** The largest relative change of the first block's residual at which the other blocks are skipped. Default: {@link DEFAULT_THRESHOLD} */
  readonly threshold?: number | undefined;
}

/**
 * FirstBlockCache. With r = block₀(x) − x, the blocks behind the first are skipped where
 * mean|r − r′| ≤ threshold · mean|r′|, and what they added at the last step that ran them is added again. r′ is of that
 * step, too. Only the clip's tokens are compared.
 */
export function firstBlockCache({ threshold = DEFAULT_THRESHOLD }: FirstBlockOptions = {}): StepCache {
  return {
    // r, r′, what the other blocks added, and the first block's input or output.
    tensors: () => 4,
    prepare: (task) => {
      const { gpu, gridTokens, model: { shape } } = task;
      return Promise.resolve(perPass(task, (slot) => {
        const input = slot(), residual = slot(), before = slot(), others = new AddedByBlocks(gpu, slot);
        return () => ({
          remaining: async ({ layer, x, keep }) => {
            if (layer === 0) input.set(keep());
            if (layer === 1 && shape.layers > 1) {
              residual.set(gpu.scope(() => combine(gpu, [[1, x], [-1, input.tensor!]])));
              input.clear();
              if (before.tensor && others.isKnown) {
                const size = gridTokens * x.dim(-1);
                const { difference, magnitude } = await meanDistance(gpu, residual.tensor!, before.tensor, size);
                if (difference <= threshold * magnitude) return others.again(x);
              }
              before.takeFrom(residual);
              others.begin(keep());
            }
            if (layer > 1 && layer === shape.layers) others.end(x);
            return undefined;
          },
        });
      }));
    },
  };
}
