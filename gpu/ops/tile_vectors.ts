import type { MatrixFormat } from "../formats/format.ts";
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, u32s, unroll, write } from "../kernel.ts";
import { chosenHead, chosenHeads, type Heads } from "../kernels/chosen_heads.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import type { TileLayout } from "../tile_layout.ts";
import { poolTiles } from "./tile_pooling.ts";
import { joinTileVectors, projectTiles } from "./tile_scores.ts";

export interface Sides<T> {
  readonly q: T;
  readonly k: T;
}

export interface TileVectorOptions extends Heads {
  readonly layout: TileLayout;
  /**
   * The projections P of each side, [heads, 3 · head dim, head dim], f32, bf16 or f16. Without them, a tile's vector is
   * the mean of its tokens.
   */
  readonly projections?: Sides<Tensor> | undefined;
  /**
   * Whether a vector is followed by the second order of the logarithm of attention mass: a query tile's `square`, a key
   * tile's `variance` (see `TileFeature`). Default: false
   */
  readonly second?: boolean | undefined;
}

/** The feature that follows the vectors of a side. */
type Second = "square" | "variance" | undefined;

/**
 * Vectors of the tiles of q and of k, for `tileScores`: features·P + mean. See `poolTiles` and `projectTiles`.
 *
 * @param q [batch, tokens, heads · head dim], f32; head dim a multiple of 4; the same holds for k
 * @returns two tensors of [batch · heads, tiles, head dim], f32; twice as wide with `second`
 */
export function tileVectors(
  gpu: Gpu,
  { q, k }: Sides<Tensor>,
  { projections, second = false, ...options }: TileVectorOptions,
): Sides<Tensor> {
  const [vq, vk] = gpu.scope(() => [
    vectorsOf(gpu, q, projections?.q, second ? "square" : undefined, options),
    vectorsOf(gpu, k, projections?.k, second ? "variance" : undefined, options),
  ]);
  return { q: vq!, k: vk! };
}

/** The means of tiles, of x [batch, tokens, heads · head dim], f32: [batch · heads, tiles, head dim], f32. */
export function tileMeans(gpu: Gpu, x: Tensor, options: Omit<TileVectorOptions, "projections" | "second">): Tensor {
  return vectorsOf(gpu, x, undefined, undefined, options);
}

function vectorsOf(
  gpu: Gpu,
  x: Tensor,
  projection: Tensor | undefined,
  second: Second,
  { heads, layout, only }: Omit<TileVectorOptions, "projections" | "second">,
): Tensor {
  const [batch, tokens, dim] = x.shape as [number, number, number];
  const headDim4 = dim / heads / 4, tileCount = layout.tiles.dim(1);
  if (gpu.kernels.plain || headDim4 > MOST_VECTORS) {
    if (!projection) return poolTiles(gpu, x, heads, layout, only, second ? ["mean", second] : ["mean"]);
    return gpu.scope(() => {
      const vectors = projectTiles(gpu, poolTiles(gpu, x, heads, layout, only), projection, heads, only);
      if (!second) return vectors;
      return joinTileVectors(gpu, vectors, poolTiles(gpu, x, heads, layout, only, [second]), { heads, only });
    });
  }
  if (!Number.isInteger(headDim4)) throw new Error(`tileVectors: ${heads} heads of ${dim / heads}`);
  const y = gpu.tensor([batch * heads, tileCount, (second ? 2 : 1) * dim / heads]);
  const { chosen, head_ids, params } = chosenHeads(gpu, { heads, only });
  // A small grid has few tiles: then several threads pool one. They add in another order, which must not depend on the
  // heads that are computed together, so this counts all heads, and whole tiles.
  const whole = Math.ceil(layout.order.dim(1) / layout.capacity);
  const groups = (slices: number) => Math.ceil(whole / (rowsOf(headDim4) / slices)) * heads * batch;
  const divides = (slices: number) => slices <= MOST_SLICES && rowsOf(headDim4) % (slices * TILES_AT_ONCE) === 0;
  let slices = 1;
  while (groups(slices) < ENOUGH_GROUPS && divides(2 * slices)) slices *= 2;
  gpu.run(KERNEL({ headDim4, format: projection?.matrixFormat, second, slices }), {
    buffers: { ...{ x, order: layout.order, tiles: layout.tiles, head_ids, y }, ...projection && { projection } },
    params: { ...params, tokens, tile_count: tileCount, slots: layout.order.dim(1) },
    workgroups: [Math.ceil(tileCount / (rowsOf(headDim4) / slices)), chosen, batch],
  });
  return y;
}

/** The most vec4s of a head for which a workgroup has enough threads. */
const MOST_VECTORS = 64;
/** The number of tiles that a thread projects. */
const TILES_AT_ONCE = 4;
/** The most rows of threads that share a tile: each joins what all have found. */
const MOST_SLICES = 8;
/** Fewer workgroups than this leave a GPU idle. */
const ENOUGH_GROUPS = 256;

/** The number of rows of `headDim4` threads in a workgroup, which has about 256. */
function rowsOf(headDim4: number): number {
  return Math.floor(256 / headDim4 / TILES_AT_ONCE) * TILES_AT_ONCE;
}

interface Variant {
  readonly headDim4: number;
  readonly format: MatrixFormat | undefined;
  readonly second: Second;
  /** The number of rows of threads that share the tokens of a tile, a power of two. */
  readonly slices: number;
}

/** The vec4s of workgroup memory for each thread: 16 KiB in all, which every adapter has. */
const AREA = 4;

/** WGSL: gives all slices of a tile what they have found together. */
function joinSlices(
  { headDim4, rows, slices }: { headDim4: number; rows: number; slices: number },
  second: Second,
  projects: boolean,
): string {
  const add = (name: string) => [name, (other: string) => `${name} += ${other};`] as const;
  const pick = (name: string, by: string) => [name, (other: string) => `${name} = ${by}(${name}, ${other});`] as const;
  const all = [
    ...[add("sum"), ...second ? [add("squares")] : [], ...second === "variance" ? [add("moved")] : []],
    ...projects ? [pick("top", "max"), pick("low", "min")] : [],
  ];
  const at = (n: number, row: string) => `shared_area[(${n * rows}u + ${row}) * ${headDim4}u + lid.x]`;
  return [all.slice(0, AREA), all.slice(AREA)].filter(({ length }) => length > 0).map((some) => `
${some.map(([name], n) => `  ${at(n, "lid.y")} = ${name};`).join("\n")}
  workgroupBarrier();
${
    some.map(([name, combined], n) => {
      const first = `lid.y / ${slices}u * ${slices}u`;
      return `  ${name} = ${at(n, first)};\n${
        unroll(slices - 1, (i) => `  ${combined(at(n, `${first} + ${i + 1}u`))}`)
      }`;
    }).join("\n")
  }
  workgroupBarrier();`).join("\n");
}

/**
 * For GPUs. A row of threads pools a tile, or a slice of it. Neighbouring threads read neighbouring vec4s of a token, and
 * eight tokens are loaded at once. The features stay in workgroup memory. A thread projects four tiles, so that each
 * number of P is used for four products. Each thread does so over a part of the features, and finally the parts are
 * added.
 */
const KERNEL = memo(({ headDim4, format, second, slices }: Variant): KernelSource => {
  const rows = rowsOf(headDim4), tiles = rows / slices, features = 3 * headDim4, parts = TILES_AT_ONCE * slices;
  const width = (second ? 2 : 1) * headDim4;
  /** The second order's sum over tokens, and what it adds up for the token `v`; differences to the first cancel little. */
  const sums = second === "square"
    ? (v: string) => `squares += ${v} * ${v};`
    : (v: string) => `let by = ${v} - first; moved += by; squares += by * by;`;
  const projected = format?.read.four, sliced = slices > 1, slice = `lid.y % ${slices}u`;
  const empty = "if (slots.y == 0u) { return Features(); }";
  const step = 8 * slices, slot = (i: number) => `s + ${i * slices}u`;
  const join = sliced ? joinSlices({ headDim4, rows, slices }, second, projected !== undefined) : "";
  return {
    name: `tile_vectors_${4 * headDim4}_${format ?? "none"}${second ? `_${second}` : ""}${
      sliced ? `_by_${slices}` : ""
    }`,
    buffers: {
      ...{ x: read("vec4f"), order: read("u32"), tiles: read("vec2u"), head_ids: read("u32") },
      ...projected && { projection: read(projected.element) },
      y: write("vec4f"),
    },
    params: u32s("tokens", "heads", "has_heads", "tile_count", "slots"),
    workgroupSize: [headDim4, rows, 1],
    declarations: `
struct Features { mean: vec4f, top: vec4f, low: vec4f${second ? ", second: vec4f" : ""} }
fn pool(at: u32, ${sliced ? "given: vec2u, lid: vec3u" : "slots: vec2u"}) -> Features {
${sliced ? "  let slots = select(given, vec2u(), given.y == 0u);" : ""}
${sliced ? "" : `  ${empty}`}
  let row = p.heads * ${headDim4}u;
  let last = ${sliced ? "select(slots.x + slots.y - 1u, slots.x, slots.y == 0u)" : "slots.x + slots.y - 1u"};
  var sum = vec4f();
  var top = x[at + order[slots.x] * row];
  var low = top;
${second ? "  let first = top;\n  var squares = vec4f();" : ""}
${second === "variance" ? "  var moved = vec4f();" : ""}
  for (var s = slots.x${sliced ? ` + ${slice}` : ""}; s <= last; s += ${step}u) {
${unroll(8, (i) => `    let v${i} = x[at + order[min(${slot(i)}, last)] * row];`)}
${
      unroll(8, (i) =>
        `    sum += select(vec4f(), v${i}, ${slot(i)} <= last); top = max(top, v${i}); low = min(low, v${i});${
          second ? `\n    if (${slot(i)} <= last) { ${sums(`v${i}`)} }` : ""
        }`)
    }
  }
${join}
${sliced ? `  ${empty}` : ""}
  let n = f32(slots.y);
  return Features(sum / n, top, low${
      second === "square"
        ? ", squares * (0.5 / n)"
        : second === "variance"
        ? `, max(vec4f(), squares - moved * (moved / n)) * (${1 / Math.sqrt(4 * headDim4)} / n)`
        : ""
    });
}${projected ? projected.declare("projection") + projected.unpack4 : ""}
// First what slices join; then the features, tile by tile; then the parts of the products.
var<workgroup> shared_area: array<vec4f, ${AREA * rows * headDim4}>;`,
    body: `${chosenHead("head", "wid.y")}
  let own = ${sliced ? `lid.y / ${slices}u` : "lid.y"};
  let tile = wid.x * ${tiles}u + own;
  var slots = select(vec2u(), tiles[kind * p.tile_count + min(tile, p.tile_count - 1u)], tile < p.tile_count);
  // In the order of the head's kind.
  slots.x += kind * p.slots;
  let at = (wid.z * p.tokens * p.heads + head) * ${headDim4}u + lid.x;
  let y_at = ((wid.z * p.heads + head) * p.tile_count + tile) * ${width}u + lid.x;
  let features = pool(at, slots${sliced ? ", lid" : ""});
  var v = features.mean;
${
      projected
        ? `  let staged = own * ${features}u + lid.x;
  ${sliced ? `if (${slice} == 0u) ` : ""}{
    shared_area[staged] = features.mean;
    shared_area[staged + ${headDim4}u] = features.top;
    shared_area[staged + ${2 * headDim4}u] = features.low;
  }
  workgroupBarrier();
  let part = lid.y % ${parts}u;
  let first_tile = lid.y / ${parts}u * ${TILES_AT_ONCE}u;
  let p_at = head * ${4 * features * headDim4}u + lid.x;
${unroll(4, (t) => `  var sum${t} = vec4f();`)}
  for (var f = part; f < ${features}u; f += ${parts}u) {
${
          unroll(4, (r) =>
            `    let w${r} = unpack4(${projected.read("projection", `p_at + (4u * f + ${r}u) * ${headDim4}u`)});`)
        }
${
          unroll(4, (t) =>
            `    { let feature = shared_area[(first_tile + ${t}u) * ${features}u + f];
      sum${t} += feature.x * w0 + feature.y * w1 + feature.z * w2 + feature.w * w3; }`)
        }
  }
  workgroupBarrier();
${
          unroll(4, (t) => `  shared_area[(part * ${tiles}u + first_tile + ${t}u) * ${headDim4}u + lid.x] = sum${t};`)
        }
  workgroupBarrier();
${unroll(parts, (i) => `  v += shared_area[(${i * tiles}u + own) * ${headDim4}u + lid.x];`)}`
        : ""
    }
  if (tile >= p.tile_count${sliced ? ` || ${slice} != 0u` : ""}) { return; }
  y[y_at] = v;${second ? `\n  y[y_at + ${headDim4}u] = features.second;` : ""}`,
  };
});
