/**
 * FirstBlockCache: the change that the first block makes decides whether the other blocks are run. It was published
 * with ParaAttention; diffusers has it as `FirstBlockCacheConfig`.
 *
 * @module
 */
import { combine } from "../../gpu/ops/combine.ts";
import { meanDistance } from "../../gpu/ops/mean_distance.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { perPass } from "./pass_state.ts";
import type { StepCache } from "./step_cache.ts";

/** Settings of FirstBlockCache. */
export interface FirstBlockOptions {
  /** The largest relative change of the first block's residual at which the other blocks are skipped. Default: 0.05 */
  readonly threshold?: number | undefined;
}

/**
 * FirstBlockCache. With r = block₀(x) − x, the blocks behind the first are skipped where
 * mean|r − r′| ≤ threshold · mean|r′|, and what they added at the last step that ran them is added again. r′ is of that
 * step, too. Only the clip's tokens are compared.
 */
export function firstBlockCache({ threshold = 0.05 }: FirstBlockOptions = {}): StepCache {
  return {
    // r, r′, what the other blocks added, and the first block's input or output.
    tensors: () => 4,
    prepare: (task) => {
      const { gpu, gridTokens, model: { shape } } = task;
      const add = (x: Tensor, sign: 1 | -1, y: Tensor) => gpu.scope(() => combine(gpu, [[1, x], [sign, y]]));
      return Promise.resolve(perPass(task, (slot) => {
        const input = slot(), residual = slot(), before = slot(), output = slot(), added = slot();
        return () => ({
          remaining: async ({ layer, x, keep }) => {
            if (layer === 0) input.set(keep());
            if (layer === 1 && shape.layers > 1) {
              residual.set(add(x, -1, input.tensor!));
              input.clear();
              if (before.tensor && added.tensor) {
                const size = gridTokens * x.dim(-1);
                const { difference, magnitude } = await meanDistance(gpu, residual.tensor!, before.tensor, size);
                if (difference <= threshold * magnitude) return add(x, 1, added.tensor);
              }
              before.takeFrom(residual);
              added.clear();
              output.set(keep());
            }
            if (layer > 1 && layer === shape.layers) {
              added.set(add(x, -1, output.tensor!));
              output.clear();
            }
            return undefined;
          },
        });
      }));
    },
  };
}
