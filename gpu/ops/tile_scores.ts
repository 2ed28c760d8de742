import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, u32s, unroll, write } from "../kernel.ts";
import { chosenHead, chosenHeads, HEAD_PARAMS, type Heads } from "../kernels/chosen_heads.ts";
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

/** The number of tiles on either side that a workgroup of {@link TILED} scores. */
const SIDE = 64;
/** The number of vec4s of a vector that are staged at once. */
const DEPTH = 8;

/**
 * For GPUs: 16×16 threads hold 64×64 scores. Vectors are staged transposed, so that a vec4 has one channel of four
 * tiles, and a thread multiplies a column of four query tiles by a row of four key tiles.
 */
const TILED: KernelSource = {
  name: "tile_scores",
  buffers: { q: read("vec4f"), k: read("vec4f"), head_ids: read("u32"), y: write("f32") },
  // q_row4 and k_row4 are the number of vec4s from one tile's vector to the next.
  params: { n: "u32", ...HEAD_PARAMS, ...u32s("head_dim4", "q_row4", "k_row4"), scale: "f32" },
  workgroupSize: [16, 16, 1],
  declarations: `
var<workgroup> q_staged: array<vec4f, ${SIDE * DEPTH}>;
var<workgroup> k_staged: array<vec4f, ${SIDE * DEPTH}>;
fn store(at: u32, column: u32, scores: vec4f) {
${unroll(4, (j) => `  if (column + ${j}u < p.n) { y[at + column + ${j}u] = scores.${"xyzw"[j]}; }`)}
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
  for (var d0 = 0u; d0 < p.head_dim4; d0 += ${DEPTH}u) {
    let d = d0 + depth;
    var v = mat4x4f();
    if (d < p.head_dim4) {
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
      `  if (row + ${i}u < p.n) { store((matrix * p.n + row + ${i}u) * p.n, column, p.scale * c${i}); }`)
  }`,
};

/**
 * Scores q̂·k̂ᵀ / √(head dim): predictions of how much a query tile attends to a key tile.
 *
 * @param q [batch · heads, tiles, at least head dim], f32: vectors of the query tiles, or their features
 * @param k as q, of the key tiles
 * @param headDim a multiple of 4
 * @returns [batch · heads, tiles, tiles], f32
 */
export function tileScores(
  gpu: Gpu,
  q: Tensor,
  k: Tensor,
  { headDim, ...heads }: Heads & { readonly headDim: number },
): Tensor {
  const scale = 1 / Math.sqrt(headDim);
  if (gpu.kernels.plain) return matmul(gpu, q, k, { ...heads, transposeB: true, inner: headDim, scale });
  const [matrices, n] = q.shape as [number, number, number];
  if (headDim % 4 !== 0 || k.dim(0) !== matrices || k.dim(1) !== n || q.dim(2) < headDim || k.dim(2) < headDim) {
    throw new Error(`tileScores: [${q.shape}] and [${k.shape}] of ${headDim}`);
  }
  const { chosen, head_ids, params } = chosenHeads(gpu, heads), groups = Math.ceil(n / SIDE);
  const y = gpu.tensor([matrices, n, n]);
  gpu.run(TILED, {
    buffers: { q, k, head_ids, y },
    params: { ...params, n, head_dim4: headDim / 4, q_row4: q.dim(2) / 4, k_row4: k.dim(2) / 4, scale },
    workgroups: [groups, groups, matrices / heads.heads * chosen],
  });
  return y;
}
