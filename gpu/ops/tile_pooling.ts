import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { chosenHead, chosenHeads, HEAD_PARAMS } from "../kernels/chosen_heads.ts";
import type { Tensor } from "../tensor.ts";
import type { TileLayout } from "../tile_layout.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** Neighbouring threads read neighbouring vec4s of one token, so a head's row takes one load per thread. */
const KERNEL = perElement({
  name: "tile_pooling",
  buffers: { x: read("vec4f"), order: read("u32"), tiles: read("vec2u"), head_ids: read("u32"), y: write("vec4f") },
  params: { tokens: "u32", ...HEAD_PARAMS, ...u32s("head_dim4", "tile_count") },
  body: `  let c = i % p.head_dim4;
  let tile = (i / p.head_dim4) % p.tile_count;
  let batch = i / (p.head_dim4 * p.tile_count * p.chosen);
${chosenHead("head", "(i / (p.head_dim4 * p.tile_count)) % p.chosen")}
  let base = batch * p.tokens * p.heads * p.head_dim4 + head * p.head_dim4 + c;
  let row = p.heads * p.head_dim4;
  let slots = tiles[tile];
  let at = ((batch * p.heads + head) * p.tile_count + tile) * 3u * p.head_dim4 + c;
  if (slots.y == 0u) {
    y[at] = vec4f();
    y[at + p.head_dim4] = vec4f();
    y[at + 2u * p.head_dim4] = vec4f();
    return;
  }
  var sum = x[base + order[slots.x] * row];
  var top = sum;
  var low = sum;
  for (var s = slots.x + 1u; s < slots.x + slots.y; s++) {
    let v = x[base + order[s] * row];
    sum += v;
    top = max(top, v);
    low = min(low, v);
  }
  y[at] = sum / f32(slots.y);
  y[at + p.head_dim4] = top;
  y[at + 2u * p.head_dim4] = low;`,
});

/**
 * Computes the features of tiles (Veda's triplet pooling). Tokens are read once, through the layout's order. No
 * reordered copy of x is made here or later, because attention gathers tokens through the same order.
 *
 * @param x [batch, tokens, heads · head dim], f32; head dim a multiple of 4
 * @param only [n], u32: the heads to compute; the results of other heads are undefined. Default: all
 * @returns [batch · heads, tiles, 3 · head dim], f32: mean, then maximum, then minimum; 0 for an empty tile
 */
export function poolTiles(gpu: Gpu, x: Tensor, heads: number, { order, tiles }: TileLayout, only?: Tensor): Tensor {
  const [batch, tokens, dim] = x.shape as [number, number, number];
  const { chosen, head_ids, params } = chosenHeads(gpu, { heads, only });
  const tileCount = tiles.dim(0), headDim = dim / heads;
  if (headDim % 4 !== 0) throw new Error(`poolTiles: ${heads} heads of ${headDim}`);
  const y = gpu.tensor([batch * heads, tileCount, 3 * headDim]);
  const sizes = { ...params, tokens, head_dim4: headDim / 4, tile_count: tileCount };
  return runPerElement(gpu, KERNEL, { x, order, tiles, head_ids, y }, sizes, batch * chosen * tileCount * headDim / 4);
}
