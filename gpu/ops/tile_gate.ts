import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";

const KERNEL = perElement({
  name: "tile_gate",
  buffers: { rows: read("vec4f"), gate: read("vec4f"), tile_of: read("u32"), y: write("vec4f") },
  // Tokens from `end` on are in no tile.
  params: u32s("tokens", "end", "heads", "head_dim4", "tile_count"),
  body: `  let dim4 = p.heads * p.head_dim4;
  let c = i % dim4;
  let token = (i / dim4) % p.end;
  let batch = i / (dim4 * p.end);
  let at = (batch * p.tokens + token) * dim4 + c;
  let matrix = batch * p.heads + c / p.head_dim4;
  let row = rows[(matrix * p.tile_count + tile_of[token]) * p.head_dim4 + c % p.head_dim4];
  y[at] += gate[at] * row;`,
});

/**
 * Adds to each token the row of its tile, times a gate: y += gate · rows[tile], in place.
 *
 * @param y [batch, tokens, heads · head dim], f32; head dim a multiple of 4
 * @param rows [batch · heads, tiles, head dim], f32
 * @param gate of the shape of y, f32
 * @param tileOf [tiled tokens], u32: the tile of each token from the first on. The others are left as they are
 */
export function addGatedTiles(gpu: Gpu, y: Tensor, rows: Tensor, gate: Tensor, tileOf: Tensor): void {
  const [batch, tokens, dim] = y.shape as [number, number, number], [matrices, tileCount, headDim] = rows.shape;
  const heads = dim / headDim!, end = tileOf.size;
  if (headDim! % 4 !== 0 || matrices !== batch * heads || gate.size !== y.size || end > tokens) {
    throw new Error(`addGatedTiles: [${y.shape}], [${rows.shape}], [${gate.shape}] and ${end} tokens`);
  }
  const params = { tokens, end, heads, head_dim4: headDim! / 4, tile_count: tileCount! };
  runPerElement(gpu, KERNEL, { rows, gate, tile_of: tileOf, y }, params, batch * end * dim / 4);
}
