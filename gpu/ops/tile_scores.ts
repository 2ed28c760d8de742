/**
 * How much a query tile is expected to attend to a key tile.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import type { Tensor } from "../tensor.ts";
import { matmul } from "./matmul.ts";

/**
 * Vectors of tiles: q̂ = features·P + mean, as Veda has it. Without a projection the features stand for them, of which
 * {@link tileScores} takes the mean.
 *
 * @param features [batch · heads, tiles, 3 · head dim], f32, see `poolTiles`
 * @param projection P, [heads, 3 · head dim, head dim], f32, bf16 or f16
 * @param only [n], u32: heads to do; what belongs to others is left undefined. Default all
 * @returns [batch · heads, tiles, head dim], f32; the features themselves where there is no projection
 */
export function projectTiles(
  gpu: Gpu,
  features: Tensor,
  projection: Tensor | undefined,
  heads: number,
  only?: Tensor,
): Tensor {
  return projection ? matmul(gpu, features, projection, { heads, only, added: features }) : features;
}

/**
 * Scores q̂·k̂ᵀ / √(head dim).
 *
 * @param q [batch · heads, tiles, at least head dim], f32: vectors of the query tiles, or their features
 * @param k as q, of the key tiles
 * @returns [batch · heads, tiles, tiles], f32
 */
export function tileScores(
  gpu: Gpu,
  q: Tensor,
  k: Tensor,
  { heads, headDim, only }: { heads: number; headDim: number; only?: Tensor | undefined },
): Tensor {
  return matmul(gpu, q, k, { heads, only, transposeB: true, inner: headDim, scale: 1 / Math.sqrt(headDim) });
}
