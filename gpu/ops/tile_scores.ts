import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, u32s, unroll, write } from "../kernel.ts";
import { chosenHead, chosenHeads, HEAD_PARAMS, type Heads } from "../kernels/chosen_heads.ts";
import { memo } from "../kernels/memo.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";
import { matmul } from "./matmul.ts";

/**
 * Projects features to vectors of tiles: q̂ = features·P + mean, as in Veda.
 *
 * @param features [batch · heads, tiles, 3 · head dim], f32, see `poolTiles`
 * @param projection P, [heads, 3 · head dim, head dim], f32, bf16 or f16
 * @param only [n], u32: the heads to compute; the results of other heads are undefined. Default: all
 * @returns [batch · heads, tiles, head dim], f32
 */
export function projectTiles(
  gpu: Gpu,
  features: Tensor,
  projection: Tensor,
  heads: number,
  only?: Tensor,
): Tensor {
  return matmul(gpu, features, projection, { heads, only, added: features });
}

/** One row after the other: that of `a`, then that of `b`. */
const JOINED = perElement({
  name: "tile_vectors_joined",
  buffers: { a: read("vec4f"), b: read("vec4f"), head_ids: read("u32"), y: write("vec4f") },
  params: { tile_count: "u32", ...HEAD_PARAMS, ...u32s("a4", "b4") },
  body: `  let width = p.a4 + p.b4;
  let c = i % width;
  let tile = (i / width) % p.tile_count;
${chosenHead("head", "(i / (width * p.tile_count)) % p.chosen")}
  let row = (i / (width * p.tile_count * p.chosen) * p.heads + head) * p.tile_count + tile;
  if (c < p.a4) { y[row * width + c] = a[row * p.a4 + c]; }
  else { y[row * width + c] = b[row * p.b4 + c - p.a4]; }`,
});

/**
 * Vectors of tiles with more channels: those of `a`, then those of `b`.
 *
 * @param a [batch · heads, tiles, a multiple of 4], f32; the same holds for b
 * @returns [batch · heads, tiles, both], f32
 */
export function joinTileVectors(gpu: Gpu, a: Tensor, b: Tensor, heads: Heads): Tensor {
  const [matrices, n, width] = a.shape as [number, number, number], more = b.dim(2);
  const { chosen, head_ids, params } = chosenHeads(gpu, heads);
  const y = gpu.tensor([matrices, n, width + more]);
  const sizes = { ...params, tile_count: n, a4: width / 4, b4: more / 4 };
  const count = matrices / heads.heads * chosen * n * (width + more) / 4;
  return runPerElement(gpu, JOINED, { a, b, head_ids, y }, sizes, count);
}

/** The number of tiles on either side that a workgroup of {@link TILED} scores. */
const SIDE = 64;
/** The number of vec4s of a vector that are staged at once. */
const DEPTH = 8;

/**
 * For GPUs: 16×16 threads hold 64×64 scores. Vectors are staged transposed, so that a vec4 has one channel of four
 * tiles, and a thread multiplies a column of four query tiles by a row of four key tiles.
 */
const TILED = memo((counts: boolean): KernelSource => ({
  name: `tile_scores${counts ? "_counts" : ""}`,
  buffers: {
    ...{ q: read("vec4f"), k: read("vec4f"), head_ids: read("u32") },
    ...counts && { tiles: read("vec2u") },
    y: write("f32"),
  },
  // q_row4 and k_row4 are the number of vec4s from one tile's vector to the next.
  params: { n: "u32", ...HEAD_PARAMS, ...u32s("width4", "q_row4", "k_row4"), scale: "f32" },
  workgroupSize: [16, 16, 1],
  declarations: `
var<workgroup> q_staged: array<vec4f, ${SIDE * DEPTH}>;
var<workgroup> k_staged: array<vec4f, ${SIDE * DEPTH}>;
fn store(at: u32, column: u32, tiles_at: u32, scores: vec4f) {
${
    unroll(4, (j) =>
      `  if (column + ${j}u < p.n) { y[at + column + ${j}u] = scores.${"xyzw"[j]}${
        counts ? ` + ${logOfRows(`tiles_at + column + ${j}u`)}` : ""
      }; }`)
  }
}`,
  body: `${chosenHead("head", "wid.z % p.chosen")}
  let matrix = (wid.z / p.chosen) * p.heads + head;
  // Half of the threads stage queries, half stage keys. Each takes four tiles, and one vec4 of them.
  let quad = li % 16u;
  let depth = (li / 16u) % ${DEPTH}u;
  let of_q = li < ${SIDE * DEPTH / 4}u;
${
    unroll(4, (i) =>
      `  let q${i} = (matrix * p.n + min(wid.y * ${SIDE}u + quad * 4u + ${i}u, p.n - 1u)) * p.q_row4;
  let k${i} = (matrix * p.n + min(wid.x * ${SIDE}u + quad * 4u + ${i}u, p.n - 1u)) * p.k_row4;`)
  }
${unroll(4, (i) => `  var c${i} = vec4f();`)}
  for (var d0 = 0u; d0 < p.width4; d0 += ${DEPTH}u) {
    let d = d0 + depth;
    var v = mat4x4f();
    if (d < p.width4) {
      if (of_q) { v = transpose(mat4x4f(q[q0 + d], q[q1 + d], q[q2 + d], q[q3 + d])); }
      else { v = transpose(mat4x4f(k[k0 + d], k[k1 + d], k[k2 + d], k[k3 + d])); }
    }
    if (of_q) {
${unroll(4, (j) => `      q_staged[(depth * 4u + ${j}u) * 16u + quad] = v[${j}];`)}
    } else {
${unroll(4, (j) => `      k_staged[(depth * 4u + ${j}u) * 16u + quad] = v[${j}];`)}
    }
    workgroupBarrier();
    for (var s = 0u; s < ${SIDE * DEPTH}u; s += 64u) {
${
    unroll(4, (s) =>
      `      { let a = q_staged[s + ${16 * s}u + lid.y]; let b = k_staged[s + ${16 * s}u + lid.x];
        c0 += a.x * b; c1 += a.y * b; c2 += a.z * b; c3 += a.w * b; }`)
  }
    }
    workgroupBarrier();
  }
  let row = wid.y * ${SIDE}u + lid.y * 4u;
  let column = wid.x * ${SIDE}u + lid.x * 4u;
${
    unroll(4, (i) =>
      `  if (row + ${i}u < p.n) { store((matrix * p.n + row + ${i}u) * p.n, column, kind * p.n, p.scale * c${i}); }`)
  }`,
}));

/** WGSL: ln of the number of rows of a key tile; an empty one counts as one row. */
const logOfRows = (tile: string) => `log(f32(max(1u, tiles[${tile}].y)))`;

/** For software adapters, whose scores are a plain product. */
const ADD_COUNTS = perElement({
  name: "tile_counts",
  buffers: { tiles: read("vec2u"), head_ids: read("u32"), y: write("f32") },
  params: { n: "u32", ...HEAD_PARAMS },
  body: `  let column = i % p.n;
${chosenHead("head", "(i / (p.n * p.n)) % p.chosen")}
  let list = (i / (p.n * p.n * p.chosen)) * p.heads + head;
  y[(list * p.n + (i / p.n) % p.n) * p.n + column] += ${logOfRows("kind * p.n + column")};`,
});

/** The hash of PCG: each element is a hash of its index and the seed. */
const RANDOM = perElement({
  name: "random_scores",
  buffers: { y: write("f32") },
  params: { seed: "u32" },
  body: `  let state = (i ^ p.seed) * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  y[i] = f32(((word >> 22u) ^ word) >> 8u);`,
});

/**
 * Random numbers in place of scores, evenly distributed over 2²⁴ values.
 *
 * @param seed a whole number below 2³²
 */
export function randomScores(gpu: Gpu, shape: readonly number[], seed: number): Tensor {
  return runPerElement(gpu, RANDOM, { y: gpu.tensor(shape) }, { seed });
}

export interface TileScoreOptions extends Heads {
  /** Scores are products over √(head dim). A multiple of 4. */
  readonly headDim: number;
  /** The number of channels that are multiplied, from the first on; a multiple of 4. Default: head dim */
  readonly width?: number;
  /** [kinds, tiles, 2], u32, as in `TileLayout`: ln of a key tile's rows is added to its scores. Default: none is added */
  readonly rowsOf?: Tensor | undefined;
}

/**
 * Scores q̂·k̂ᵀ / √(head dim): predictions of how much a query tile attends to a key tile.
 *
 * @param q [batch · heads, tiles, at least width], f32: vectors of the query tiles, or their features
 * @param k as q, of the key tiles
 * @returns [batch · heads, tiles, tiles], f32
 */
export function tileScores(
  gpu: Gpu,
  q: Tensor,
  k: Tensor,
  { headDim, width = headDim, rowsOf, ...heads }: TileScoreOptions,
): Tensor {
  const scale = 1 / Math.sqrt(headDim), [matrices, n] = q.shape as [number, number, number];
  const { chosen, head_ids, params } = chosenHeads(gpu, heads), lists = matrices / heads.heads * chosen;
  if (gpu.kernels.plain) {
    const y = matmul(gpu, q, k, { ...heads, transposeB: true, inner: width, scale });
    if (rowsOf) runPerElement(gpu, ADD_COUNTS, { tiles: rowsOf, head_ids, y }, { ...params, n }, lists * n * n);
    return y;
  }
  if (width % 4 !== 0 || k.dim(0) !== matrices || k.dim(1) !== n || q.dim(2) < width || k.dim(2) < width) {
    throw new Error(`tileScores: [${q.shape}] and [${k.shape}] of ${width}`);
  }
  const groups = Math.ceil(n / SIDE), y = gpu.tensor([matrices, n, n]);
  gpu.run(TILED(rowsOf !== undefined), {
    buffers: { q, k, head_ids, ...rowsOf && { tiles: rowsOf }, y },
    params: { ...params, n, width4: width / 4, q_row4: q.dim(2) / 4, k_row4: k.dim(2) / 4, scale },
    workgroups: [groups, groups, lists],
  });
  return y;
}
