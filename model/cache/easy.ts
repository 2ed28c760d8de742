/**
 * EasyCache (arXiv 2507.02860): how much the velocity changed with the latents before decides whether a pass is run.
 *
 * @module
 */
import { combine } from "../../gpu/ops/combine.ts";
import { type MeanDistance, meanDistance } from "../../gpu/ops/mean_distance.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { perPass } from "./pass_state.ts";
import type { CacheHooks, KeptByCache, StepCache } from "./step_cache.ts";

/** Settings of EasyCache. */
export interface EasyOptions {
  /** The sum of estimated changes up to which passes are skipped. Default: the family's, or 0.05 */
  readonly threshold?: number | undefined;
  /** The number of first steps that are always computed. Default: the family's, or 10 */
  readonly first?: number | undefined;
}

/**
 * EasyCache, on a pass's input x (the latents) and output y (the velocity). A computed step measures
 * k = mean|Δy| / mean|Δx| against the computed step before it. Each later step adds k · mean|Δx| / mean|y′| to a sum, with
 * Δx against the step before and y′ the last computed output. While the sum is below the threshold, the output is
 * x + (y′ − x′). A computed step resets the sum. The first steps and the last are computed.
 */
export function easyCache({ threshold, first }: EasyOptions = {}): StepCache {
  return {
    resumable: true,
    // Latents are smaller than tokens: Wan's have 64 numbers for each token of 1,536 and more.
    tensors: () => 0.25,
    prepare: (task) => {
      const { gpu, timesteps, model } = task, last = timesteps.length - 1;
      const own = model.family.cacheNumbers?.easy ?? { threshold: 0.05, first: 10 };
      const limit = threshold ?? own.threshold, warmUp = first ?? own.first;
      const copy = (x: Tensor) => gpu.scope(() => combine(gpu, [[1, x]]));
      return Promise.resolve(perPass(task, (slot, from) => {
        // x of the last step, and x and y of the last computed step.
        const slots = { seen: slot(), input: slot(), output: slot() }, { seen, input, output } = slots;
        for (const [name, slot] of Object.entries(slots)) {
          const kept = from?.tensors[name];
          if (kept) slot.set(gpu.upload(kept.data, kept.shape));
        }
        // The changes between the last two computed steps, once they are known.
        let changes = from && changesOf(from.numbers);
        let sum = from?.numbers.sum ?? 0;
        const hooks = (step: number): CacheHooks => ({
          velocity: async (x) => {
            let skips = false;
            if (step >= warmUp && step < last && changes) {
              const [dx, dy] = await changes;
              const { difference } = await meanDistance(gpu, x, seen.tensor!);
              sum += dy.difference / dx.difference * difference / dy.magnitude;
              skips = sum < limit;
            }
            seen.set(copy(x));
            if (skips) return gpu.scope(() => combine(gpu, [[1, x], [1, output.tensor!], [-1, input.tensor!]]));
            sum = 0;
            return undefined;
          },
          predicted: (x, y) => {
            if (input.tensor && output.tensor) {
              changes = Promise.all([meanDistance(gpu, x, input.tensor), meanDistance(gpu, output.tensor, y)]);
              changes.catch(() => {/* told where it is waited for; an abort leaves it alone */});
            }
            input.set(copy(x));
            output.set(copy(y));
          },
        });
        return Object.assign(hooks, {
          kept: (): KeptByCache => ({
            tensors: Object.fromEntries(
              Object.entries(slots).flatMap(([name, { tensor }]) => tensor ? [[name, tensor]] : []),
            ),
            numbers: numbersOf(sum, changes),
          }),
        });
      }));
    },
  };
}

/** The changes of a pass's input and output between two computed steps. */
type Changes = Promise<readonly [x: MeanDistance, y: MeanDistance]>;

/** As numbers with names. */
async function numbersOf(sum: number, changes: Changes | undefined): Promise<Record<string, number>> {
  const [x, y] = await changes ?? [];
  if (!x || !y) return { sum };
  return {
    sum,
    ...{ xDifference: x.difference, xMagnitude: x.magnitude },
    ...{ yDifference: y.difference, yMagnitude: y.magnitude },
  };
}

/** Those that numbers say; undefined if they say none. */
function changesOf(numbers: Readonly<Record<string, number>>): Changes | undefined {
  const { xDifference, xMagnitude, yDifference, yMagnitude } = numbers;
  if (xDifference === undefined) return undefined;
  return Promise.resolve([
    { difference: xDifference, magnitude: xMagnitude! },
    { difference: yDifference!, magnitude: yMagnitude! },
  ]);
}
