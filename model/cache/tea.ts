/**
 * TeaCache (arXiv 2411.19108): the change of the time embedding's modulation decides whether the blocks are run.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { meanDistance } from "../../gpu/ops/mean_distance.ts";
import { AddedByBlocks, perPass } from "./pass_state.ts";
import type { CacheTask, StepCache } from "./step_cache.ts";

/** Settings of TeaCache. */
export interface TeaOptions {
  /** The sum of estimated changes up to which blocks are skipped. Default: the smaller one that the authors used */
  readonly threshold?: number | undefined;
  /** The polynomial from the change of the modulated input to that of the output, highest power first. Default: the model's */
  readonly coefficients?: readonly number[] | undefined;
}

/**
 * TeaCache. With e a pass's modulated input, each step adds p(mean|e − e′| / mean|e′|) to a sum, where p is a polynomial
 * and e′ is of the step before. While the sum is below the threshold, all blocks are skipped, and what they added at the
 * last step that ran them is added again. A step that runs them resets the sum. The first and the last step run them.
 */
export function teaCache({ threshold, coefficients }: TeaOptions = {}): StepCache {
  const numbers = (model: CacheTask["model"]) => {
    const { family, shape: { layers, heads } } = model;
    const fitted = family.cacheNumbers?.tea?.find((row) => row.layers === layers && row.heads === heads);
    const powers = coefficients ?? fitted?.coefficients, limit = threshold ?? fitted?.threshold;
    if (powers && limit !== undefined) return { powers, limit };
    throw new TilereelError(
      `TeaCache needs coefficients for this model of ${layers} layers with ${heads} heads, ` +
        "since its authors fitted none: give them and a threshold, or use the cache first-block, which needs none",
    );
  };
  return {
    // What the blocks added, their input, and the modulated input of two steps.
    tensors: () => 4,
    check: (model) => void numbers(model),
    prepare: (task) => {
      const { gpu, timesteps, model } = task, last = timesteps.length - 1, { powers, limit } = numbers(model);
      return Promise.resolve(perPass(task, (slot) => {
        const before = slot(), blocks = new AddedByBlocks(gpu, slot);
        let sum = 0;
        return (step) => ({
          remaining: async ({ layer, x, keep, modulatedInput }) => {
            if (layer === 0) {
              const modulated = await modulatedInput();
              if (!modulated) throw new TilereelError(`TeaCache is not possible with models of ${model.family.name}`);
              const previous = before.tensor;
              let skips = false;
              if (step > 0 && step < last && previous && blocks.isKnown) {
                const { difference, magnitude } = await meanDistance(gpu, modulated, previous);
                sum += powers.reduce((value, power) => value * (difference / magnitude) + power, 0);
                skips = sum < limit;
              }
              before.set(gpu.scope(() => combine(gpu, [[1, modulated]])));
              if (skips) return blocks.again(x);
              sum = 0;
              blocks.begin(keep());
            }
            if (layer === model.shape.layers) blocks.end(x);
            return undefined;
          },
        });
      }));
    },
  };
}
