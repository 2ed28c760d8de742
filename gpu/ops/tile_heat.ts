import type { Gpu } from "../gpu.ts";
import { heatPlain, heatTiled } from "../kernels/attention/heat.ts";
import type { Tensor } from "../tensor.ts";
import type { TileLayout } from "../tile_layout.ts";
import { headDimOf } from "./attention_launch.ts";
import { chosenHeads, type Heads } from "../kernels/chosen_heads.ts";

/**
 * The heat of full attention: how much the queries of one tile attend to the keys of another. It takes one pass over
 * q·kᵀ, and stores one number for each pair of tiles, never one for each pair of tokens.
 *
 * @param q [batch, tokens, heads · head dim], f32; head dim a multiple of 4, on GPUs 16, 32, 64 or 128
 * @param k likewise
 * @param lse [batch, tokens, heads], f32: as `attention` returns it for the same q and k
 * @returns [batch · heads, query tiles, key tiles], f32: the largest attention probability between a token of one tile
 * and a token of the other, and the sum of these probabilities. A row's sums add up to the number of its tile's tokens
 */
export function tileHeat(
  gpu: Gpu,
  q: Tensor,
  k: Tensor,
  lse: Tensor,
  options: Heads & { readonly layout: TileLayout },
): { readonly max: Tensor; readonly sum: Tensor } {
  const { heads, layout: { order, tiles } } = options, { chosen, head_ids, params } = chosenHeads(gpu, options);
  const [batch, tokens, dim] = q.shape as [number, number, number];
  const headDim = headDimOf(gpu, q, heads), count = tiles.dim(0);
  const max = gpu.tensor([batch * heads, count, count]), sum = gpu.tensor(max.shape);
  gpu.run(gpu.kernels.plain ? heatPlain(headDim) : heatTiled({ headDim, f16: gpu.f16 }), {
    buffers: { q, k, lse, order, tiles, head_ids, maximum: max, total: sum },
    params: { ...params, tokens, dim4: dim / 4, tiles: count, scale: 1 / Math.sqrt(headDim) },
    workgroups: [gpu.kernels.plain ? Math.ceil(count / 8) : count, count, batch * chosen],
  });
  return { max, sum };
}
