import type { BlockList } from "../attention_plan.ts";
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, unroll, write } from "../kernel.ts";
import { attentionLoop } from "../kernels/attention/loop.ts";
import type { Heads } from "../kernels/chosen_heads.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import type { TileLayout } from "../tile_layout.ts";
import { blockRows } from "./attention_family.ts";
import { launchAttention } from "./attention_launch.ts";
import { tileCovariance } from "./tile_covariance.ts";
import { joinTileVectors } from "./tile_scores.ts";
import { tileMeans } from "./tile_vectors.ts";

/** The operands of attention over some tiles, and what it found. */
export interface AttendedTiles {
  /** [batch, tokens, heads · head dim], f32; head dim a multiple of 4; the same holds for k, v and y */
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  /** The output, to which the rest is added. */
  readonly y: Tensor;
  /** [batch, tokens, heads], f32: each query's log Σ exp(score) */
  readonly lse: Tensor;
}

export interface RestOptions extends Heads {
  readonly layout: TileLayout;
  /** The blocks of queries and the runs that they attended to: whole tiles, in the order of slots. */
  readonly queries: BlockList;
  /** The number of tokens that lie in tiles. */
  readonly inTiles: number;
}

/** The number of queries of a workgroup. On software adapters a thread takes the next part of a block. */
const ROWS = 64;

/**
 * A thread computes one query. The running softmax (see `kernels/attention/plain.ts`) begins with what attention found,
 * as one key with the score `lse` and the value y, and goes on with the tiles that are in no run.
 */
const KERNEL = memo(({ headDim, plain }: { headDim: number; plain: boolean }): KernelSource => {
  const d4 = headDim / 4, w = attentionLoop({ plan: true, rows: plain ? 1 : ROWS });
  const each = (line: (c: number) => string) => unroll(d4, line);
  return {
    name: `rest_of_tiles_${headDim}${plain ? "_plain" : ""}`,
    buffers: {
      ...{ q: read("vec4f"), means: read("vec4f"), covariance: read("vec4f"), tiles: read("vec2u"), ...w.buffers },
      ...{ lse: read("f32"), y: write("vec4f") },
    },
    params: { ...w.params, tile_count: "u32" },
    workgroupSize: [plain ? 8 : ROWS, 1, 1],
    body: `${w.begin(plain ? "gid.x" : "wid.x")}
  let row = first${plain ? "" : " + li"};
  if (row > last) { return; }
  let token = ${w.outer("row")};
  let at = token * p.dim4 + head;
  let list = wid.z * p.heads + h;
${each((c) => `  let q${c} = p.scale * q[at + ${c}u]; var a${c} = y[at + ${c}u];`)}
  var top = lse[token * p.heads + h];
  var sum = 1.0;
  var rest = 0.0;
  var r = 0u;
  for (var j = 0u; j < p.tile_count; j++) {
    let tile = tiles[kind * p.tile_count + j];
    if (tile.y == 0u) { continue; }
    while (r < block.w && runs[own_runs + r].x + runs[own_runs + r].y <= tile.x) { r++; }
    if (r < block.w && runs[own_runs + r].x <= tile.x) { continue; }
    let mean = (list * p.tile_count + j) * ${2 * d4}u;
    var score = log(f32(tile.y));
${each((c) => `    score += dot(q${c}, means[mean + ${c}u]);`)}
    let grown = max(top, score);
    let fade = exp(top - grown);
    let weight = exp(score - grown);
    top = grown;
    sum = sum * fade + weight;
    rest = rest * fade + weight;
${each((c) => `    a${c} = a${c} * fade + weight * means[mean + ${d4 + c}u];`)}
  }
  if (rest == 0.0) { return; }
  for (var e = 0u; e < ${d4}u; e++) {
    let t = (rest * p.scale) * q[at + e];
    let column = (list * ${headDim}u + 4u * e) * ${d4}u;
${
      each((c) =>
        `    a${c} += t.x * covariance[column + ${c}u] + t.y * covariance[column + ${d4 + c}u] + ` +
        `t.z * covariance[column + ${2 * d4 + c}u] + t.w * covariance[column + ${3 * d4 + c}u];`
      )
    }
  }
${each((c) => `  y[at + ${c}u] = a${c} / sum;`)}`,
  };
});

/**
 * Adds to attention over some tiles an estimate of what the others would add. Each of those is one key more: with the mean
 * of its keys, ln(number of tokens) added to its score, and the value v̄ + C·q/√(head dim). v̄ is the mean of its values, and
 * C the covariance of values and keys within tiles, one for a head (see `tileCovariance`): the first order of how a query
 * weighs a tile's tokens. Where nothing was left out, y stays as it is, to the bit.
 */
export function restOfTiles(gpu: Gpu, { q, k, v, y, lse }: AttendedTiles, options: RestOptions): void {
  const { heads, only, layout, queries, inTiles } = options, headDim = q.dim(-1) / heads;
  gpu.scope(() => {
    const means = gpu.scope(() => {
      const [ofK, ofV] = [k, v].map((x) => tileMeans(gpu, x, { heads, layout, only })) as [Tensor, Tensor];
      return joinTileVectors(gpu, ofK, ofV, { heads, only });
    });
    const covariance = tileCovariance(gpu, k, v, means, { heads, only, layout, inTiles });
    const { plain } = gpu.kernels;
    launchAttention(gpu, {
      kernel: KERNEL({ headDim, plain }),
      pattern: { heads, only, plan: { order: layout.order, queries } },
      list: queries,
      ...{ rows: plain ? 1 : ROWS, blockRows: blockRows(gpu, headDim), outer: q, inner: k.dim(1) },
      buffers: { q, means, covariance, tiles: layout.tiles, lse, y },
      params: { tile_count: layout.tiles.dim(1) },
    });
  });
}
