/**
 * How many steps of a schedule a step cache treats alike, and hooks that make a block do the same as in such a step.
 *
 * @module
 */
import type { AttentionModule, CacheHooks, CacheTask, StepCache } from "../../model/cache/step_cache.ts";

/** What becomes of an attention module's output in a step: it may be kept for later, or be that of an earlier step. */
export type Use = "computed" | "kept" | "reused";

/** The steps that treat all attention modules alike. */
export interface StepKind {
  /** What they do, in words. */
  readonly name: string;
  /** The steps' indices. */
  readonly steps: readonly number[];
  /** What is done with self-attention's output. */
  readonly self: Use;
  /** They make a block do as in these steps, any number of times. */
  readonly hooks: CacheHooks;
  /** They make a block keep what {@link hooks} reuse; absent where they reuse nothing. */
  readonly fill?: CacheHooks;
}

/** The steps of a schedule by kind. What a cache keeps is on the GPU until this is disposed of. */
export interface CachedSteps extends Disposable {
  readonly kinds: readonly StepKind[];
}

/**
 * Runs a cache of attention outputs, such as PAB, over the steps of a schedule with tiny outputs, and notes what it
 * does with them.
 *
 * @param modules the attention modules of a block
 */
export async function cachedSteps(
  cache: StepCache,
  task: CacheTask,
  modules: readonly AttentionModule[],
): Promise<CachedSteps> {
  using prepared = await cache.prepare(task);
  const { gpu, timesteps: { length } } = task, pass = task.passes[0]!;
  const ran = (module: AttentionModule, step: number) => {
    let computed = false;
    gpu.scope(() => {
      prepared.at(step, pass).attention!(0, module, () => {
        computed = true;
        return gpu.upload(Float32Array.of(1, 2, 3, 4), [1, 1, 4]);
      });
    });
    return computed;
  };
  // In order, because each step uses what those before it kept.
  const uses = modules.map((module) => {
    const computed = Array.from({ length }, (_, step) => ran(module, step));
    return computed.map((one, step): Use => one ? computed[step + 1] === false ? "kept" : "computed" : "reused");
  });
  const forBlocks = await cache.prepare(task);
  const hooksAt = (step: (module: number) => number): CacheHooks => ({
    attention: (layer, module, compute) =>
      forBlocks.at(step(modules.indexOf(module)), pass).attention!(layer, module, compute),
  });
  const nameAt = (step: number) =>
    modules.map((module, i) => `${modules.length > 1 ? `${module}-attention` : "attention"} ${uses[i]![step]}`).join();
  const kinds = [...Map.groupBy(Array.from({ length }, (_, step) => step), nameAt)].map(([name, steps]): StepKind => {
    const reuses = uses.some((use) => use[steps[0]!] === "reused");
    return {
      ...{ name: name.replaceAll(",", ", "), steps, self: uses[modules.indexOf("self")]![steps[0]!]! },
      hooks: hooksAt(() => steps[0]!),
      ...reuses && { fill: hooksAt((module) => Math.max(0, uses[module]!.indexOf("kept"))) },
    };
  });
  return { kinds, [Symbol.dispose]: () => forBlocks[Symbol.dispose]() };
}
