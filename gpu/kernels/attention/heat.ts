/**
 * The heat of attention between tiles: the maximum and the sum of the probabilities exp(scale·q·kᵀ − lse) between the
 * tokens of two tiles. Each probability is computed once and never stored. Tiles are those of a `TileLayout`.
 *
 * @module
 */
import { type KernelSource, read, u32s, unroll, write } from "../../kernel.ts";
import { chosenHead, HEAD_PARAMS } from "../chosen_heads.ts";
import { memo } from "../memo.ts";
import { PLAIN_ROWS } from "./plain.ts";
import { products, stageArea, type Staged, TILE } from "./tiles.ts";

/** `dim4` is heads · head dim / 4: vec4s from one token to the next. */
const SHARED = {
  params: { ...HEAD_PARAMS, ...u32s("tokens", "dim4", "tiles"), scale: "f32" },
  buffers: {
    ...{ q: read("vec4f"), k: read("vec4f") },
    /** [batch, tokens, heads] */
    lse: read("f32"),
    ...{ order: read("u32"), tiles: read("vec2u"), head_ids: read("u32") },
    /** [batch · heads, tiles, tiles] */
    ...{ maximum: write("f32"), total: write("f32") },
  },
} as const;

/** Defines `batch`, `h` and `head`, its first vec4 in a token. */
const HEAD = `  let batch = wid.z / p.chosen;
${chosenHead("h", "wid.z % p.chosen")}
  let head = h * (p.dim4 / p.heads);`;

/** The token of a row of a tile. Rows past the last repeat the last. */
const token = (tile: string, row: string) => `(batch * p.tokens + order[${tile}.x + min(${row}, ${tile}.y - 1u)])`;

/** The number of keys that a thread of {@link heatPlain} takes in one step. */
const PLAIN_KEYS = 4;

/** For software adapters: a thread computes one pair of tiles, a few queries at a time. */
export const heatPlain = memo((headDim: number): KernelSource => {
  const d4 = headDim / 4, rows = PLAIN_ROWS(headDim);
  const each = (line: (i: number) => string) => unroll(rows, line);
  const keys = (line: (j: number) => string) => unroll(PLAIN_KEYS, line);
  return {
    name: `tile_heat_plain_${headDim}`,
    ...SHARED,
    workgroupSize: [8, 1, 1],
    body: `  if (gid.x >= p.tiles) { return; }
${HEAD}
  let mine = tiles[wid.y];
  let other = tiles[gid.x];
  var top = 0.0;
  var sum = 0.0;
  for (var r = 0u; r < mine.y; r += ${rows}u) {
${
      each((i) =>
        `    let token${i} = ${token("mine", `r + ${i}u`)}; let at${i} = token${i} * p.dim4 + head;
    let lse${i} = lse[token${i} * p.heads + h];
${unroll(d4, (c) => `    let q${i}_${c} = q[at${i} + ${c}u] * p.scale;`)}`
      )
    }
    for (var at = 0u; at < other.y; at += ${PLAIN_KEYS}u) {
${
      keys((j) =>
        `      let k${j} = ${token("other", `at + ${j}u`)} * p.dim4 + head;
${each((i) => `      var s${i}_${j} = 0.0;`)}
${unroll(d4, (c) => `      { let t = k[k${j} + ${c}u]; ${each((i) => `s${i}_${j} += dot(q${i}_${c}, t);`)} }`)}
${
          each((i) =>
            `      s${i}_${j} = select(0.0, exp(s${i}_${j} - lse${i}), r + ${i}u < mine.y && at + ${j}u < other.y);
      top = max(top, s${i}_${j});`
          )
        }`
      )
    }
      sum += ${Array.from({ length: rows }, (_, i) => `((s${i}_0 + s${i}_1) + (s${i}_2 + s${i}_3))`).join(" + ")};
    }
  }
  let place = ((batch * p.heads + h) * p.tiles + wid.y) * p.tiles + gid.x;
  maximum[place] = top;
  total[place] = sum;`,
  };
});

/** For GPUs: a workgroup computes one pair of tiles, 64×64 scores at a time. */
export const heatTiled = memo(({ headDim, f16 }: { headDim: number; f16: boolean }): KernelSource => {
  const type: Staged = f16 ? "vec4h" : "vec4f";
  const queries = { from: "q", token: (row: string) => token("mine", `r + ${row}`), scale: "p.scale" };
  const keys = { from: "k", token: (row: string) => token("other", `at + ${row}`) };
  return {
    name: `tile_heat_tiled_${headDim}${f16 ? "_f16" : ""}`,
    f16,
    ...SHARED,
    workgroupSize: [16, 16, 1],
    declarations: `${stageArea(type)}
var<workgroup> partial: array<vec2f, 256>;`,
    body: `${HEAD}
  let mine = tiles[wid.y];
  let other = tiles[wid.x];
  var top = 0.0;
  var sum = 0.0;
  for (var r = 0u; r < mine.y; r += ${TILE}u) {
${unroll(4, (i) => `    let lse${i} = lse[${token("mine", `r + lid.y + ${16 * i}u`)} * p.heads + h];`)}
    for (var at = 0u; at < other.y; at += ${TILE}u) {
${products("s", queries, keys, headDim, type)}
      let inside = vec4<bool>(${[0, 1, 2, 3].map((j) => `at + lid.x * 4u + ${j}u < other.y`).join(", ")});
${
      unroll(4, (i) =>
        `      if (r + lid.y + ${16 * i}u < mine.y) {
        let e = select(vec4f(), exp(vec4f(${[0, 1, 2, 3].map((j) => `s${4 * i + j}`).join(", ")}) - lse${i}), inside);
        top = max(top, max(max(e.x, e.y), max(e.z, e.w)));
        sum += (e.x + e.y) + (e.z + e.w);
      }`)
    }
    }
  }
  partial[li] = vec2f(top, sum);
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (li < half) {
      let a = partial[li];
      let b = partial[li + half];
      partial[li] = vec2f(max(a.x, b.x), a.y + b.y);
    }
    workgroupBarrier();
  }
  if (li == 0u) {
    let place = ((batch * p.heads + h) * p.tiles + wid.y) * p.tiles + wid.x;
    maximum[place] = partial[0].x;
    total[place] = partial[0].y;
  }`,
  };
});
