import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, u32s, write } from "../kernel.ts";
import { chosenHead, chosenHeads, HEAD_PARAMS } from "../kernels/chosen_heads.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import type { TileLayout } from "../tile_layout.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/**
 * Statistics of a channel over a tile's tokens. `square` is half the mean of the squares, and `variance` the variance
 * over √(head dim): a query tile's squares times a key tile's variances, over √(head dim), are the second order of the
 * logarithm of the attention mass between them.
 */
export type TileFeature = keyof typeof FEATURES;

/** What a feature is computed from. Variances are of differences to the first token, so that little cancels. */
const FEATURES = {
  mean: "mean",
  top: "top",
  low: "low",
  square: "squares * (0.5 / f32(slots.y))",
  variance: "max(vec4f(), moved_squares - moved * (moved / f32(slots.y))) / f32(slots.y) * p.variance_scale",
} as const;

/** Neighbouring threads read neighbouring vec4s of one token, so a head's row takes one load per thread. */
const KERNEL = memo((features: readonly TileFeature[]): KernelSource => {
  const store = (value: (feature: TileFeature) => string) =>
    features.map((feature, i) => `  y[at + ${i}u * p.head_dim4] = ${value(feature)};`).join("\n");
  return perElement({
    name: `tile_pooling_${features.join("_")}`,
    buffers: { x: read("vec4f"), order: read("u32"), tiles: read("vec2u"), head_ids: read("u32"), y: write("vec4f") },
    params: { tokens: "u32", ...HEAD_PARAMS, ...u32s("head_dim4", "tile_count", "slots"), variance_scale: "f32" },
    body: `  let c = i % p.head_dim4;
  let tile = (i / p.head_dim4) % p.tile_count;
  let batch = i / (p.head_dim4 * p.tile_count * p.chosen);
${chosenHead("head", "(i / (p.head_dim4 * p.tile_count)) % p.chosen")}
  let base = batch * p.tokens * p.heads * p.head_dim4 + head * p.head_dim4 + c;
  let row = p.heads * p.head_dim4;
  let slots = tiles[kind * p.tile_count + tile];
  let own_order = kind * p.slots;
  let at = ((batch * p.heads + head) * p.tile_count + tile) * ${features.length}u * p.head_dim4 + c;
  if (slots.y == 0u) {
${store(() => "vec4f()")}
    return;
  }
  let first = x[base + order[own_order + slots.x] * row];
  var mean = first;
  var top = first;
  var low = first;
  var squares = first * first;
  var moved = vec4f();
  var moved_squares = vec4f();
  for (var s = slots.x + 1u; s < slots.x + slots.y; s++) {
    let v = x[base + order[own_order + s] * row];
    mean += v;
    top = max(top, v);
    low = min(low, v);
    squares += v * v;
    let by = v - first;
    moved += by;
    moved_squares += by * by;
  }
  mean /= f32(slots.y);
${store((feature) => FEATURES[feature])}`,
  });
});

/**
 * Computes the features of tiles (Veda's triplet pooling). Tokens are read once, through the layout's order. No
 * reordered copy of x is made here or later, because attention gathers tokens through the same order.
 *
 * @param x [batch, tokens, heads · head dim], f32; head dim a multiple of 4
 * @param only [n], u32: the heads to compute; the results of other heads are undefined. Default: all
 * @param features Default: mean, then maximum, then minimum
 * @returns [batch · heads, tiles, features · head dim], f32; 0 for an empty tile
 */
export function poolTiles(
  gpu: Gpu,
  x: Tensor,
  heads: number,
  { order, tiles }: TileLayout,
  only?: Tensor,
  features: readonly TileFeature[] = ["mean", "top", "low"],
): Tensor {
  const [batch, tokens, dim] = x.shape as [number, number, number];
  const { chosen, head_ids, params } = chosenHeads(gpu, { heads, only });
  const tileCount = tiles.dim(1), headDim = dim / heads;
  if (headDim % 4 !== 0) throw new Error(`poolTiles: ${heads} heads of ${headDim}`);
  const y = gpu.tensor([batch * heads, tileCount, features.length * headDim]);
  const sizes = { ...params, tokens, head_dim4: headDim / 4, tile_count: tileCount, slots: order.dim(1) };
  return runPerElement(
    gpu,
    KERNEL(features),
    { x, order, tiles, head_ids, y },
    { ...sizes, variance_scale: 1 / Math.sqrt(headDim) },
    batch * chosen * tileCount * headDim / 4,
  );
}
