import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { headDots } from "../../gpu/ops/head_dots.ts";
import { sumRows } from "../../gpu/ops/sum_rows.ts";
import { tileHeat } from "../../gpu/ops/tile_heat.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AttentionState } from "./sampling_states.ts";
import type { TilePattern } from "./tile_pattern.ts";

/** The reference values of a state. */
export type FullAttention = Pick<AttentionState, "q" | "k" | "v" | "y" | "lse">;

/** ‖y‖² of each head, [1, heads], f32. */
export function squaredNorm(gpu: Gpu, y: Tensor, heads: number): Tensor {
  return gpu.scope(() => sumRows(gpu, headDots(gpu, y, y, heads)));
}

/**
 * ‖O_sparse − O_full‖² of each head, if each query tile attends to the tiles in `runs`; [1, heads], f32.
 *
 * @param only [n], u32: the heads to compute; the results of other heads are 0. Default: all
 */
export function sparseError(
  gpu: Gpu,
  { q, k, v, y }: FullAttention,
  runs: Tensor,
  pattern: TilePattern,
  heads: number,
  only?: Tensor,
): Tensor {
  return gpu.scope(() => {
    const into = only && gpu.tensor(y.shape);
    if (into) gpu.copy(y, into);
    const sparse = pattern.attend(q, k, v, runs, { only, into });
    return squaredNorm(gpu, combine(gpu, [[1, sparse], [-1, y]]), heads);
  });
}

/** As {@link sparseError}, with an oracle's tiles: those with the most heat. Shapes of tiles are compared by it. */
export function oracleError(gpu: Gpu, state: FullAttention, pattern: TilePattern, heads: number): Tensor {
  return gpu.scope(() => {
    const { max } = tileHeat(gpu, state.q, state.k, state.lse, { heads, layout: pattern.layout });
    return sparseError(gpu, state, pattern.select(max), pattern, heads);
  });
}
