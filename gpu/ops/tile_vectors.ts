/**
 * Computes vectors that represent tiles of queries and keys: pooled and projected.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, unroll, write } from "../kernel.ts";
import { chosenHead } from "../kernels/chosen_head.ts";
import { memo } from "../kernels/memo.ts";
import { packedElement, unpack4, type WeightDtype } from "../kernels/packed.ts";
import type { Tensor } from "../tensor.ts";
import type { TileLayout } from "../tile_layout.ts";
import { poolTiles } from "./tile_pooling.ts";
import { projectTiles } from "./tile_scores.ts";

/** The operands of both sides of attention. */
export interface Sides<T> {
  readonly q: T;
  readonly k: T;
}

/** Options of {@link tileVectors}. */
export interface TileVectorOptions {
  readonly heads: number;
  readonly layout: TileLayout;
  /**
   * The projections P of each side, [heads, 3 · head dim, head dim], f32, bf16 or f16. Without them, a tile's vector is
   * the mean of its tokens.
   */
  readonly projections?: Sides<Tensor> | undefined;
  /** [n], u32: the heads to compute; the results of other heads are undefined. Default: all */
  readonly only?: Tensor | undefined;
}

/**
 * Vectors of the tiles of q and of k, for `tileScores`: features·P + mean. See `poolTiles` and `projectTiles`.
 *
 * @param q [batch, tokens, heads · head dim], f32; head dim a multiple of 4; the same holds for k
 * @returns two tensors of [batch · heads, tiles, at least head dim], f32
 */
export function tileVectors(
  gpu: Gpu,
  { q, k }: Sides<Tensor>,
  { heads, layout, projections, only }: TileVectorOptions,
): Sides<Tensor> {
  const [batch, tokens, dim] = q.shape as [number, number, number];
  const headDim4 = dim / heads / 4, tileCount = layout.tiles.dim(0);
  if (gpu.kernels.plain || headDim4 > MOST_VECTORS) {
    const [vq, vk] = gpu.scope(() => {
      const vectors = (x: Tensor, projection: Tensor | undefined) =>
        gpu.scope(() => projectTiles(gpu, poolTiles(gpu, x, heads, layout, only), projection, heads, only));
      return [vectors(q, projections?.q), vectors(k, projections?.k)] as const;
    });
    return { q: vq, k: vk };
  }
  if (!Number.isInteger(headDim4)) throw new Error(`tileVectors: ${heads} heads of ${dim / heads}`);
  const dtype = projections?.q.dtype as WeightDtype | undefined;
  if (projections?.k.dtype !== dtype) throw new Error("tileVectors: projections of two formats");
  const vectors = {
    q: gpu.tensor([batch * heads, tileCount, dim / heads]),
    k: gpu.tensor([batch * heads, tileCount, dim / heads]),
  };
  gpu.run(KERNEL({ headDim4, dtype: dtype ?? "none" }), {
    buffers: {
      ...{ q, k, order: layout.order, tiles: layout.tiles, head_ids: only ?? gpu.placeholder },
      ...projections && { project_q: projections.q, project_k: projections.k },
      ...{ of_q: vectors.q, of_k: vectors.k },
    },
    params: { tokens, heads, has_heads: only ? 1 : 0, tile_count: tileCount },
    workgroups: [Math.ceil(tileCount / tilesAtOnce(headDim4)), only?.dim(0) ?? heads, 2 * batch],
  });
  return vectors;
}

/** The most vec4s of a head for which a workgroup has enough threads. */
const MOST_VECTORS = 64;
/** The number of threads that share the features of a tile when they are projected. */
const PARTS = 4;

/** The number of tiles of one workgroup, for about 256 threads. */
function tilesAtOnce(headDim4: number): number {
  return Math.floor(256 / headDim4 / PARTS) * PARTS;
}

/**
 * For GPUs: queries and keys in one dispatch. A row of threads pools a tile. Neighbouring threads read neighbouring
 * vec4s of a token, and eight tokens are loaded at once. The features stay in workgroup memory. A thread projects four
 * tiles, so that each number of P is used for four products. Each thread does so over a part of the features, and
 * finally the parts are added.
 */
const KERNEL = memo(({ headDim4, dtype }: { headDim4: number; dtype: WeightDtype | "none" }): KernelSource => {
  const tiles = tilesAtOnce(headDim4), features = 3 * headDim4;
  const sides = ["q", "k"] as const;
  const either = (line: (side: "q" | "k") => string) => `  if (is_query) { ${line("q")} } else { ${line("k")} }`;
  const pool = (side: "q" | "k") => `
fn pool_${side}(at: u32, slots: vec2u) -> Features {
  if (slots.y == 0u) { return Features(); }
  let row = p.heads * ${headDim4}u;
  let last = slots.x + slots.y - 1u;
  var sum = vec4f();
  var top = ${side}[at + order[slots.x] * row];
  var low = top;
  for (var s = slots.x; s <= last; s += 8u) {
${unroll(8, (i) => `    let v${i} = ${side}[at + order[min(s + ${i}u, last)] * row];`)}
${
    unroll(8, (i) =>
      `    sum += select(vec4f(), v${i}, s + ${i}u <= last); top = max(top, v${i}); low = min(low, v${i});`)
  }
  }
  return Features(sum / f32(slots.y), top, low);
}`;
  const project = (side: "q" | "k") => `
fn project_${side}_by(at: u32, part: u32, first_tile: u32) -> array<vec4f, 4> {
${unroll(4, (t) => `  var sum${t} = vec4f();`)}
  for (var f = part; f < ${features}u; f += ${PARTS}u) {
${unroll(4, (r) => `    let w${r} = unpack4(project_${side}[at + (4u * f + ${r}u) * ${headDim4}u]);`)}
${
    unroll(4, (t) =>
      `    { let x = shared_area[(first_tile + ${t}u) * ${features}u + f];
      sum${t} += x.x * w0 + x.y * w1 + x.z * w2 + x.w * w3; }`)
  }
  }
  return array<vec4f, 4>(sum0, sum1, sum2, sum3);
}`;
  const projected = dtype !== "none";
  return {
    name: `tile_vectors_${4 * headDim4}_${dtype}`,
    buffers: {
      ...{ q: read("vec4f"), k: read("vec4f"), order: read("u32"), tiles: read("vec2u"), head_ids: read("u32") },
      ...projected && { project_q: read(packedElement(dtype)), project_k: read(packedElement(dtype)) },
      ...{ of_q: write("vec4f"), of_k: write("vec4f") },
    },
    params: { tokens: "u32", heads: "u32", has_heads: "u32", tile_count: "u32" },
    workgroupSize: [headDim4, tiles, 1],
    declarations: `
struct Features { mean: vec4f, top: vec4f, low: vec4f }
${sides.map(pool).join("")}
${
      projected
        ? `${unpack4(dtype)}
// First the features, tile by tile; then the parts of the products.
var<workgroup> shared_area: array<vec4f, ${PARTS * tiles * headDim4}>;
${sides.map(project).join("")}`
        : ""
    }`,
    body: `  let is_query = (wid.z & 1u) == 0u;
  let batch = wid.z >> 1u;
${chosenHead("head", "wid.y")}
  let tile = wid.x * ${tiles}u + lid.y;
  let slots = select(vec2u(), tiles[min(tile, p.tile_count - 1u)], tile < p.tile_count);
  let at = (batch * p.tokens * p.heads + head) * ${headDim4}u + lid.x;
  let y_at = ((batch * p.heads + head) * p.tile_count + tile) * ${headDim4}u + lid.x;
  var features: Features;
${either((side) => `features = pool_${side}(at, slots);`)}
${
      projected
        ? `  let staged = lid.y * ${features}u + lid.x;
  shared_area[staged] = features.mean;
  shared_area[staged + ${headDim4}u] = features.top;
  shared_area[staged + ${2 * headDim4}u] = features.low;
  workgroupBarrier();
  let part = lid.y % ${PARTS}u;
  let first_tile = lid.y - part;
  let p_at = head * ${4 * features * headDim4}u + lid.x;
  var sums: array<vec4f, 4>;
${either((side) => `sums = project_${side}_by(p_at, part, first_tile);`)}
  workgroupBarrier();
${unroll(4, (t) => `  shared_area[(part * ${tiles}u + first_tile + ${t}u) * ${headDim4}u + lid.x] = sums[${t}];`)}
  workgroupBarrier();
  var v = features.mean;
${unroll(PARTS, (i) => `  v += shared_area[(${i * tiles}u + lid.y) * ${headDim4}u + lid.x];`)}`
        : "  let v = features.mean;"
    }
  if (tile >= p.tile_count) { return; }
${either((side) => `of_${side}[y_at] = v;`)}`,
  };
});
