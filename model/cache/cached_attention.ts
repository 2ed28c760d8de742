import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AttentionModule, CacheHooks } from "./step_cache.ts";

/**
 * Runs an attention module, or has the cache give its output.
 *
 * @param apply makes the block's result of the module's output: gates, which may differ between rows, and the residual
 * @param compute runs the module with its norm. If `fused`, its output projection also does the work of `apply`
 * @returns the block's result, [batch, tokens, dim]
 */
export function cachedAttention(
  gpu: Gpu,
  { cache, layer, module }: { cache: CacheHooks | undefined; layer: number; module: AttentionModule },
  apply: (output: Tensor) => Tensor,
  compute: (fused: boolean) => Tensor,
): Tensor {
  if (!cache?.attention) return compute(true);
  return gpu.scope(() => apply(cache.attention!(layer, module, () => compute(false))));
}
