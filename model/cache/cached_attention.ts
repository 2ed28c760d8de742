/**
 * The place of a step cache in an attention module.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { gated } from "../../gpu/ops/gated.ts";
import type { ModulationVector } from "../../gpu/ops/modulation.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AttentionModule, CacheHooks } from "./step_cache.ts";

/** What a module's output is added to, and what multiplies it. Its output projection can do both. */
export interface AttentionOutput {
  readonly gate?: ModulationVector;
  readonly residual: Tensor;
}

/** An attention module of a pass, and the pass's cache. */
export interface CachedModule {
  readonly cache: CacheHooks | undefined;
  readonly layer: number;
  readonly module: AttentionModule;
}

/**
 * Runs an attention module, or has the cache give its output: residual + gate · output.
 *
 * @param compute the module with its norm; its output projection fuses what it is given, which without a hook is all
 * @returns [batch, tokens, dim]
 */
export function cachedAttention(
  gpu: Gpu,
  { cache, layer, module }: CachedModule,
  { gate, residual }: AttentionOutput,
  compute: (fused: Partial<AttentionOutput>) => Tensor,
): Tensor {
  if (!cache?.attention) return compute({ ...gate && { gate }, residual });
  return gpu.scope(() => {
    const output = cache.attention!(layer, module, () => compute({}));
    return gate ? gated(gpu, output, gate, residual) : combine(gpu, [[1, residual], [1, output]]);
  });
}
