import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { chosenHead, chosenHeads, HEAD_PARAMS, type Heads } from "../kernels/chosen_heads.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";
import type { TileLayout } from "../tile_layout.ts";
import { sumRows } from "./sum_rows.ts";

/** The fewest tiles whose tokens one thread adds. */
const TILES = 8;
/** The most bytes of the parts' sums: a binding has at least 128 MiB. */
const MOST_BYTES = 64 * 2 ** 20;

/** A thread adds 4×4 products over the tokens of some tiles. */
const KERNEL = perElement({
  name: "tile_covariance",
  buffers: {
    ...{ k: read("vec4f"), v: read("vec4f"), means: read("vec4f") },
    ...{ order: read("u32"), tiles: read("vec2u"), head_ids: read("u32"), y: write("vec4f") },
  },
  params: {
    ...{ ...HEAD_PARAMS, ...u32s("tokens", "head_dim4", "tile_count", "slots", "parts", "tiles_each") },
    weight: "f32",
  },
  body: `  let c = i % p.head_dim4;
  let e = (i / p.head_dim4) % p.head_dim4;
  let square = p.head_dim4 * p.head_dim4;
  let part = (i / square) % p.parts;
  let batch = i / (square * p.parts * p.chosen);
${chosenHead("head", "(i / (square * p.parts)) % p.chosen")}
  let row = p.heads * p.head_dim4;
  let base = batch * p.tokens * row + head * p.head_dim4;
  var sum0 = vec4f();
  var sum1 = vec4f();
  var sum2 = vec4f();
  var sum3 = vec4f();
  for (var tile = part * p.tiles_each; tile < min((part + 1u) * p.tiles_each, p.tile_count); tile++) {
    let slots = tiles[kind * p.tile_count + tile];
    let mean = ((batch * p.heads + head) * p.tile_count + tile) * 2u * p.head_dim4;
    let mean_k = means[mean + e];
    let mean_v = means[mean + p.head_dim4 + c];
    for (var s = slots.x; s < slots.x + slots.y; s++) {
      let at = base + order[kind * p.slots + s] * row;
      let from_k = k[at + e] - mean_k;
      let from_v = v[at + c] - mean_v;
      sum0 += from_k.x * from_v;
      sum1 += from_k.y * from_v;
      sum2 += from_k.z * from_v;
      sum3 += from_k.w * from_v;
    }
  }
  let to = (((batch * p.parts + part) * p.heads + head) * 4u * p.head_dim4 + 4u * e) * p.head_dim4 + c;
  y[to] = p.weight * sum0;
  y[to + p.head_dim4] = p.weight * sum1;
  y[to + 2u * p.head_dim4] = p.weight * sum2;
  y[to + 3u * p.head_dim4] = p.weight * sum3;`,
});

/**
 * The covariance of keys and values within tiles: of each head, the mean over the tokens of all its tiles of
 * (k − mean of k in its tile)(v − mean of v in its tile)ᵀ.
 *
 * @param k [batch, tokens, heads · head dim], f32; head dim a multiple of 4; the same holds for v
 * @param means [batch · heads, tiles, 2 · head dim], f32: the means of keys, then of values
 * @param options `inTiles`: the number of tokens that lie in tiles
 * @returns [batch · heads, head dim (k), head dim (v)], f32
 */
export function tileCovariance(
  gpu: Gpu,
  k: Tensor,
  v: Tensor,
  means: Tensor,
  { heads, only, layout: { order, tiles }, inTiles }: Heads & { readonly layout: TileLayout; readonly inTiles: number },
): Tensor {
  const [batch, tokens, dim] = k.shape as [number, number, number], headDim = dim / heads, tileCount = tiles.dim(1);
  const { chosen, head_ids, params } = chosenHeads(gpu, { heads, only });
  const most = Math.max(1, Math.floor(MOST_BYTES / (4 * batch * dim * headDim)));
  const each = Math.max(TILES, Math.ceil(tileCount / most)), parts = Math.ceil(tileCount / each);
  return gpu.scope(() => {
    const y = gpu.tensor([batch, parts, dim * headDim]), head_dim4 = headDim / 4;
    const sizes = { tokens, head_dim4, tile_count: tileCount, slots: order.dim(1), parts, tiles_each: each };
    runPerElement(
      gpu,
      KERNEL,
      { k, v, means, order, tiles, head_ids, y },
      { ...params, ...sizes, weight: 1 / inTiles },
      batch * chosen * parts * head_dim4 ** 2,
    );
    return sumRows(gpu, y, { heads, only }).reshape([batch * heads, headDim, headDim]);
  });
}
