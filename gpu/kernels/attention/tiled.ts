/**
 * Attention for GPUs by ordinary arithmetic, with a running softmax, so that scores never leave the chip. A workgroup
 * holds a block of queries and processes the keys in steps. A thread holds the scores and the outputs of the same few
 * queries, so their softmax stays in registers.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { lookaheadLoop } from "./lookahead.ts";
import { callName, forwardBuffers, type ForwardCall, LN_2, LOG2_E } from "./forward.ts";
import { MASKED } from "./loop.ts";

/** How a workgroup shares its work. All numbers are powers of two. */
export interface Tile {
  /** The number of queries of a block. */
  readonly rows: number;
  /** The number of keys of a step. */
  readonly keys: number;
  readonly threads: number;
  /** The number of threads that share a query, for a head of this many vec4s. */
  readonly across: number;
  /** The number of vec4s of values that are staged at once. */
  readonly values: number;
  /** Operands are staged in f16, and keys and values are packed by `pack.ts`. Sums are f32. */
  readonly f16: boolean;
  /**
   * With `f16`: how many products are summed in f16 before they are added to the f32 sums. Packed f16 is twice as fast
   * on some GPUs, but each addition to the f32 sums needs a conversion.
   */
  readonly stretch?: 8 | 16;
  /**
   * Threads that share a query communicate by subgroup operations. They must lie in one subgroup: `2 · across` threads.
   */
  readonly subgroups: boolean;
}

/** The number of vec4s along the head dimension that are staged at once. */
const CHUNK = 8;

/** The numbers that follow from a tile and a head dimension. */
function layout({ rows, keys, threads, values, f16, subgroups, ...tile }: Tile, headDim: number) {
  const d4 = headDim / 4, chunk = Math.min(CHUNK, d4), across = Math.min(tile.across, d4), down = threads / across;
  const valueRows = Math.min(keys, values / d4);
  // Rows are padded by one vec4, so that neighbouring rows lie in different banks.
  const wide = chunk + 1, weightsWide = keys / 4 + 1;
  const vec4s = (rows + keys) * wide + rows * weightsWide + valueRows * d4;
  return {
    d4,
    chunk,
    across,
    /** The distance between two queries of a thread. */
    down,
    /** The number of queries of a thread. */
    held: rows / down,
    /** The number of groups of four keys of a thread. */
    fours: keys / 4 / across,
    /** The number of vec4s of an output that one thread holds. */
    columns: d4 / across,
    valueRows,
    wide,
    weightsWide,
    bytes: vec4s * (f16 ? 8 : 16) + (subgroups ? 0 : 4 * rows * across) + 8 * keys,
  };
}

/** The bytes of workgroup memory that a tile uses. */
export const tileBytes = (tile: Tile, headDim: number): number => layout(tile, headDim).bytes;

/** The parameters of a kernel of this file. */
export interface TiledAttention extends ForwardCall {
  readonly tile: Tile;
}

/** Makes the attention kernel that is tiled over workgroup memory. Outer rows are queries, inner rows are keys. */
export const attentionTiled = memo(({ tile, ...call }: TiledAttention): KernelSource => {
  const { rows, keys, threads, f16, stretch, subgroups } = tile;
  const { d4, chunk, across, down, held, fours, columns, valueRows, wide, weightsWide } = layout(tile, call.headDim);
  const w = lookaheadLoop({ plan: call.plan, rows, step: keys, threads, sorted: f16 });
  /** The index of the first vec4 of a row of keys or values. */
  const inner = (row: string) => f16 ? `(${w.inner(row)} * nwg.y + wid.y) * ${d4}u` : `${w.inner(row)} * p.dim4 + head`;
  const vec = f16 ? "vec4h" : "vec4f";
  const widened = (value: string) => f16 && !stretch ? `vec4f(${value})` : value;
  /**
   * The number of steps along the head dimension, and of groups of four values, between two additions to the f32 sums.
   */
  const [together, valuesTogether] = [chunk, valueRows / 4].map((most) =>
    stretch ? Math.min(stretch / 4, most) : 1
  ) as [
    number,
    number,
  ];
  const mine = (line: (i: number) => string) => unroll(held, line);
  /**
   * Adds a number times `t`. It uses `fma`, because compilers do not combine a scalar-vector product and a sum by
   * themselves.
   */
  const times = (sum: string, a: string) => `${sum} = fma(${stretch ? "vec4h" : "vec4f"}(${a}), t, ${sum});`;
  const four = (line: (j: number) => string) => [0, 1, 2, 3].map(line).join(", ");
  const row = (i: number) => `(lane_row + ${down * i}u)`;
  /** The index of a key in a step: number j of a thread's g-th group of four. */
  const key = (g: number, j: number) => `lane + ${across * (4 * g + j)}u`;
  const chunkLoads = (count: number, line: (n: number, row: string) => string) =>
    unroll(count * chunk / threads, (n) => line(n, `(li / ${chunk}u + ${threads / chunk * n}u)`));

  /** Combines the values in `name` of all threads that share a query. */
  const agree = (name: string, both: (a: string, b: string) => string) =>
    subgroups
      ? mine((i) =>
        unroll(
          Math.log2(across),
          (bit) => `  ${name}${i} = ${both(name + i, `subgroupShuffleXor(${name}${i}, ${2 << bit}u)`)};`,
        )
      )
      : `${mine((i) => `  partial[${i}][lane_row][lane] = ${name}${i};`)}
  workgroupBarrier();
  for (var t = 1u; t < ${across}u; t++) {
${mine((i) => `    ${name}${i} = ${both(name + i, `partial[${i}][lane_row][(lane + t) % ${across}u]`)};`)}
  }`;

  const scores = `${mine((i) => unroll(fours, (g) => `    var s${i}_${g} = vec4f();`))}
${chunkLoads(keys, (n, row) => `    let key${n} = ${inner(row)} + li % ${chunk}u;`)}
    for (var c0 = 0u; c0 < ${d4}u; c0 += ${chunk}u) {
      if (c0 > 0u) { workgroupBarrier(); }
${
    chunkLoads(rows, (n, row) =>
      `      queries[${row} / ${down}u][${row} % ${down}u][li % ${chunk}u] = ${vec}(q[query${n} + c0] * (p.scale * ${LOG2_E}));`)
  }
${
    chunkLoads(keys, (n, row) =>
      `      keys[${row} / ${across}u][${row} % ${across}u][li % ${chunk}u] = ${vec}(k[key${n} + c0]);`)
  }
      workgroupBarrier();
      for (var c = 0u; c < ${chunk}u; c += ${together}u) {
${stretch ? mine((i) => unroll(fours, (g) => `        var h${i}_${g} = vec4h();`)) : ""}
${
    unroll(together, (u) =>
      `        {
${mine((i) => `        let a${i} = ${widened(`queries[${i}][lane_row][c + ${u}u]`)};`)}
${
        unroll(fours, (g) =>
          `        {
${unroll(4, (j) => `          let b${j} = ${widened(`keys[${4 * g + j}][lane][c + ${u}u]`)};`)}
${
            unroll(4, (d) =>
              `          { let t = ${stretch ? "vec4h" : "vec4f"}(${four((j) => `b${j}[${d}]`)}); ${
                mine((i) => times(`${stretch ? "h" : "s"}${i}_${g}`, `a${i}[${d}]`))
              } }`)
          }
        }`)
      }
        }`)
  }
${stretch ? mine((i) => unroll(fours, (g) => `        s${i}_${g} += vec4f(h${i}_${g});`)) : ""}
      }
    }`;

  const bias = (i: number, g: number) =>
    `vec4f(${
      four((j) => `bias[(h * p.outer + min(first + ${row(i)}, last)) * p.inner + min(at + ${key(g, j)}, end - 1u)]`)
    })`;
  const softmax = `${
    unroll(fours, (g) => `    let inside${g} = vec4u(${four((j) => `at + ${key(g, j)}`)}) < vec4u(end);`)
  }
${
    mine((i) =>
      `    var top${i} = m${i};
${
        unroll(fours, (g) =>
          `${call.bias ? `    s${i}_${g} += ${LOG2_E} * ${bias(i, g)};` : ""}
    s${i}_${g} = select(vec4f(${MASKED}), s${i}_${g}, inside${g});
    top${i} = max(top${i}, max(max(s${i}_${g}.x, s${i}_${g}.y), max(s${i}_${g}.z, s${i}_${g}.w)));`)
      }`
    )
  }
${agree("top", (a, b) => `max(${a}, ${b})`)}
${
    mine((i) =>
      `    let fade${i} = exp2(m${i} - top${i}); m${i} = top${i}; l${i} *= fade${i};
${
        unroll(fours, (g) =>
          `    s${i}_${g} = exp2(s${i}_${g} - top${i}); l${i} += dot(s${i}_${g}, vec4f(1.0));
    weights[${i}][lane_row][lane + ${across * g}u] = ${vec}(s${i}_${g});`)
      }
${unroll(columns, (c) => `    o${i}_${c} *= fade${i};`)}`
    )
  }`;

  // Rows of values come in the order of the weights: a thread's four keys follow one another.
  const keyOfValue = (r: string) => `(${r} / 4u % ${across}u + ${across}u * (${r} % 4u + ${r} / ${4 * across}u * 4u))`;
  const sums = `    for (var r0 = 0u; r0 < ${keys}u; r0 += ${valueRows}u) {
      if (r0 > 0u) { workgroupBarrier(); }
${
    unroll(valueRows * d4 / threads, (n) =>
      `      {
        let r = li / ${d4}u + ${threads / d4 * n}u;
        let value = v[${inner(keyOfValue("(r0 + r)"))} + li % ${d4}u];
        values[r / 4u][r % 4u][li % ${d4}u / ${across}u][li % ${across}u] = ${vec}(value);
      }`)
  }
      workgroupBarrier();
      for (var g = 0u; g < ${valueRows / 4}u; g += ${valuesTogether}u) {
${stretch ? mine((i) => unroll(columns, (c) => `        var h${i}_${c} = vec4h();`)) : ""}
${
    unroll(valuesTogether, (u) =>
      `        {
${mine((i) => `        let w${i} = ${widened(`weights[${i}][lane_row][r0 / 4u + g + ${u}u]`)};`)}
${
        unroll(columns, (c) =>
          unroll(4, (j) =>
            `        { let t = ${widened(`values[g + ${u}u][${j}][${c}][lane]`)}; ${
              mine((i) => times(`${stretch ? "h" : "o"}${i}_${c}`, `w${i}[${j}]`))
            } }`))
      }
        }`)
  }
${stretch ? mine((i) => unroll(columns, (c) => `        o${i}_${c} += vec4f(h${i}_${c});`)) : ""}
      }
    }`;

  return {
    name: `attention_tiled_${callName(call)}_${rows}x${keys}x${threads}x${valueRows}${f16 ? "_f16" : ""}${
      stretch ? `_${stretch}` : ""
    }${subgroups ? "_subgroups" : ""}`,
    f16,
    subgroups,
    buffers: forwardBuffers(call, f16 ? "vec4h" : "vec4f", w.buffers),
    params: w.params,
    workgroupSize: [threads, 1, 1],
    // The loops are nested so that a thread's offset is one index, computed outside; all else is a constant offset from
    // it.
    declarations: `${w.declarations}
var<workgroup> queries: array<array<array<${vec}, ${wide}>, ${down}>, ${held}>;
var<workgroup> keys: array<array<array<${vec}, ${wide}>, ${across}>, ${4 * fours}>;
var<workgroup> weights: array<array<array<${vec}, ${weightsWide}>, ${down}>, ${held}>;
var<workgroup> values: array<array<array<array<${vec}, ${across}>, ${columns}>, 4>, ${valueRows / 4}>;
${subgroups ? "" : `var<workgroup> partial: array<array<array<f32, ${across}>, ${down}>, ${held}>;`}`,
    body: `${w.begin("wid.x")}
  // Neighbouring threads take two queries in turn, so pairs of them read the same vec4 of keys and values: half the
  // traffic.
  let lane = li / 2u % ${across}u;
  let lane_row = li % 2u + 2u * (li / ${2 * across}u);
${chunkLoads(rows, (n, row) => `  let query${n} = ${w.outer(`first + ${row}`)} * p.dim4 + head + li % ${chunk}u;`)}
${mine((i) => `  var m${i} = ${MASKED}; var l${i} = 0.0; ${unroll(columns, (c) => `var o${i}_${c} = vec4f();`)}`)}
${w.steps({ body: `${scores}\n${softmax}\n${sums}` })}
${agree("l", (a, b) => `${a} + ${b}`)}
${
      mine((i) =>
        `  if (first + ${row(i)} <= last) {
    let token = ${w.outer(`first + ${row(i)}`)};
${call.lse ? `    if (lane == 0u) { lse[token * p.heads + h] = m${i} * ${LN_2} + log(l${i}); }` : ""}
${unroll(columns, (c) => `    y[token * p.dim4 + head + lane + ${across * c}u] = o${i}_${c} / l${i};`)}
  }`
      )
    }`,
  };
});
