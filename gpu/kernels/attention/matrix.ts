/**
 * Attention by matrix units: f16 operands, f32 sums. A subgroup owns some queries. It holds their operands and outputs
 * in registers, and its own threads compute their softmax. WGSL cannot access single elements of a matrix in registers,
 * so scores pass through workgroup memory and come back as weights. Outputs do so only at the end, and where they must
 * be rescaled.
 *
 * Rescaling is rare. Weights may be as large as 2^8, so outputs are rescaled only when a query's largest score has
 * grown by more than 8 (in powers of two), as in FlashAttention-4.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";
import { memo } from "../memo.ts";
import { lookaheadLoop } from "./lookahead.ts";
import { callName, forwardBuffers, type ForwardCall, LN_2, LOG2_E } from "./forward.ts";
import { PACKED } from "./pack.ts";
import { MASKED } from "./loop.ts";

/** How a workgroup shares its work. */
export interface MatrixTile {
  readonly units: MatrixUnits;
  /**
   * The number of subgroups side by side, and of those that share queries. Each that shares computes the scores of a
   * part of the keys, and a part of the outputs' channels. More of them hide each other's waits, for each needs fewer
   * registers.
   */
  readonly subgroups: readonly [side: number, sharing: number];
  /** The number of queries of a subgroup. */
  readonly rows: number;
  /** The number of keys of a step. */
  readonly keys: number;
  /** Keys are read one step ahead, and values while scores are computed. Both wait in registers. */
  readonly ahead?: true;
}

/** The number of queries of a workgroup. */
export const matrixRows = ({ subgroups, rows }: MatrixTile): number => subgroups[0] * rows;

/** A short name of a tile, for the names of kernels and variants. */
export const matrixName = ({ subgroups, rows, keys, ahead }: Omit<MatrixTile, "units">): string =>
  `${subgroups.join("x")}_${rows}x${keys}${ahead ? "_ahead" : ""}`;

/** The padding of rows of f16 and of f32, so that neighbouring rows lie in different banks. */
const PAD_F16 = 8, PAD_F32 = 8;
/** The threads that share a query's softmax. Each takes groups of eight scores, this many groups apart. */
const LANES = 4;
/** A query's outputs are rescaled when its largest score has grown by more than this. */
const SLACK = 8;

/** The size of the area where queries, and later keys and values, are staged. It is at least as wide as a matrix. */
function stagedSize(tile: MatrixTile, headDim: number): number {
  return Math.max(tile.keys * (headDim + PAD_F16), matrixRows(tile) * (tile.units.k + PAD_F16));
}

/** The bytes of workgroup memory that a tile uses. */
export function matrixBytes(tile: MatrixTile, headDim: number): number {
  const rows = matrixRows(tile), { keys } = tile;
  return stagedSize(tile, headDim) * 2 + rows * (keys + PAD_F32) * 4 + rows * (keys + PAD_F16) * 2 + keys * 8 + 4;
}

/** The parameters of a kernel of this file. */
export interface MatrixAttention extends ForwardCall {
  readonly tile: MatrixTile;
}

/**
 * Makes the attention kernel for matrix units. Keys and values must be in the layout that `pack.ts` writes. Outer rows are
 * queries, inner rows are keys.
 */
export const attentionMatrix = memo(({ tile, ...call }: MatrixAttention): KernelSource => {
  const { units: { m, n, k, subgroup }, subgroups: [beside, sharing], rows: owned, keys, ahead } = tile;
  const { headDim, bias, plan, lse } = call;
  const rows = matrixRows(tile), threads = beside * sharing * subgroup;
  const w = lookaheadLoop({ plan, rows, step: keys, threads, sorted: true });
  const bands = owned / m, deep = headDim / k;
  /** A subgroup's share of a step's keys and of the outputs' channels, and its number of products along these. */
  const ownKeys = keys / sharing, channels = headDim / sharing, across = channels / n;
  // Memory for matrices is counted in units of 16 bytes (eight f16 or four f32), so that matrices are aligned.
  const stagedWide = (headDim + PAD_F16) / 8, scoresWide = (keys + PAD_F32) / 4, weightsWide = (keys + PAD_F16) / 8;
  /**
   * The number of passes in which a subgroup's threads compute the softmax of its queries, and the number of groups of
   * eight scores that a thread takes in each pass.
   */
  const passes = owned / sharing * LANES / subgroup, eights = keys / LANES / 8;
  const left = `subgroup_matrix_left<f16, ${k}, ${m}>`, right = `subgroup_matrix_right<f16, ${n}, ${k}>`;
  const result = `subgroup_matrix_result<f32, ${n}, ${m}>`;

  const band = (line: (b: number) => string) => unroll(bands, line);
  const pass = (line: (s: number) => string) => unroll(passes, line);
  const atOnce = subgroup / LANES;
  const row = (s: number) => `(own + part * ${owned / sharing}u + ${s * atOnce}u + lane % ${atOnce}u)`;
  /** The factor for a query's outputs. It is stored at the end of the query's row of scores. */
  const factor = (row: string) => `scores[${row} * ${scoresWide}u + ${keys / 4}u].x`;
  /** The first key of a thread's g-th group of eight, counted in eights. */
  const eight = (g: number) => `(lane / ${atOnce}u + ${LANES * g}u)`;

  /** Distributes `count` pieces of work over the threads; `i` counts a thread's own pieces. */
  const shareOf = (count: number) => (i: number, code: string) =>
    (i + 1) * threads > count ? `if (li + ${i * threads}u < ${count}u) { ${code} }` : `{ ${code} }`;
  /** The row, and the group of eight in it, of a thread's piece of work `i`. */
  const cell = (i: number, wide: number) =>
    [`(li + ${i * threads}u) / ${wide}u`, `(li + ${i * threads}u) % ${wide}u`] as const;

  // Stages as many channels of the queries at once as fit into the area where keys are staged later. All are read
  // before any is staged, so that the kernel waits only once.
  let width = headDim;
  while (rows * (width + PAD_F16) > stagedSize(tile, headDim)) width /= 2;
  const wide = (width + PAD_F16) / 8, ofPiece = rows * width / 8, reads = Math.ceil(ofPiece / threads);
  const piece = (line: (piece: number) => string) => unroll(headDim / width, line);
  const query = shareOf(ofPiece);
  const loadQueries = `${
    piece((piece) =>
      unroll(reads, (i) => {
        const [row, eight] = cell(i, width / 8);
        return `  var query${piece}_${i}: vec4u;
  ${
          query(
            i,
            `
    let source = ${w.outer(`first + ${row}`)} * p.dim4 + head + ${piece * width / 4}u + 2u * (${eight});
    query${piece}_${i} = packed(q[source] * scale, q[source + 1u] * scale);`,
          )
        }`;
      })
    )
  }
${
    piece((piece) =>
      `${
        unroll(reads, (i) => {
          const [row, eight] = cell(i, width / 8);
          return `  ${query(i, `staged[${row} * ${wide}u + ${eight}] = query${piece}_${i};`)}`;
        })
      }
  workgroupBarrier();
${
        band((b) =>
          unroll(width / k, (d) =>
            `  let q${b}_${piece * width / k + d} = subgroupMatrixLoad<${left}, row_major>(&staged, (own + ${
              b * m
            }u) * ${wide}u + ${d * k / 8}u, ${wide}u);`)
        )
      }
  workgroupBarrier();`
    )
  }`;

  const perRow = headDim / 8, loads = Math.ceil(keys * perRow / threads);
  const each = shareOf(keys * perRow);
  const fetched = (from: string) => unroll(loads, (i) => `    var ${from}${i}: vec4u;`);
  const fetch = (from: string, of: (row: string) => string = w.inner) =>
    unroll(loads, (i) => {
      const [row, eight] = cell(i, perRow);
      return `    ${each(i, `${from}${i} = ${from}[(${of(row)} * nwg.y + wid.y) * ${perRow}u + ${eight}];`)}`;
    });
  const stage = (from: string) =>
    unroll(loads, (i) => {
      const [row, eight] = cell(i, perRow);
      return `    ${each(i, `staged[${row} * ${stagedWide}u + ${eight}] = ${from}${i};`)}`;
    });

  /**
   * A fake use that makes the load complete before the barrier. Without it, compilers postpone the load until its value
   * is needed, behind a barrier, where nothing hides the wait. The branch is harmless if it is taken.
   */
  const demanded = (from: string) =>
    `    if ((${Array.from({ length: loads }, (_, i) => `${from}${i}.x`).join(" ^ ")}) == 0x7ff17ff1u) { grown = 1u; }`;

  /** The number of independent products of scores: none waits for the sum of another. */
  const side = Math.min(ownKeys / n, 4);
  // Sums are initialized with an explicit value: Dawn clears a variable without one only in the first pass of a loop.
  const scores = (between = "") =>
    `    if (busy) {
      for (var j = part * ${ownKeys}u; j < (part + 1u) * ${ownKeys}u; j += ${side * n}u) {
${band((b) => unroll(side, (i) => `        var s${b}_${i} = ${result}();`))}
${
      unroll(deep, (d) =>
        unroll(side, (i) =>
          `        {
          let t = subgroupMatrixLoad<${right}, col_major>(&staged, (j + ${i * n}u) * ${stagedWide}u + ${
            d * k / 8
          }u, ${stagedWide}u);
${band((b) => `          s${b}_${i} = subgroupMatrixMultiplyAccumulate(q${b}_${d}, t, s${b}_${i});`)}
        }`))
    }
${between}
${
      band((b) =>
        unroll(side, (i) =>
          `        subgroupMatrixStore<row_major>(&scores, (own + ${b * m}u) * ${scoresWide}u + (j + ${
            i * n
          }u) / 4u, s${b}_${i}, ${scoresWide}u);`)
      )
    }
      }
    }`;

  const vec4 = (line: (i: number) => string) => `vec4f(${[0, 1, 2, 3].map(line).join(", ")})`;
  const biasOf = (s: number, key: string) =>
    vec4((i) => `bias[(h * p.outer + min(first + ${row(s)}, last)) * p.inner + min(at + ${key} + ${i}u, end - 1u)]`);
  const fours = (line: (g: number, half: number) => string) =>
    unroll(eights, (g) => unroll(2, (half) => line(g, half)));
  const shared = (name: string, both: (a: string, b: string) => string) =>
    unroll(
      Math.log2(LANES),
      (bit) => `      ${name} = ${both(name, `subgroupShuffleXor(${name}, ${atOnce << bit}u)`)};`,
    );
  const softmax = pass((s) =>
    `    {
      var top = ${MASKED};
${
      fours((g, half) => {
        const key = `8u * ${eight(g)} + 4u * (${half}u ^ turned)`, name = `s${g}_${half}`;
        const score = `scores[${row(s)} * ${scoresWide}u + 2u * ${eight(g)} + (${half}u ^ turned)]`;
        return `      var ${name} = ${bias ? `${score} + ${LOG2_E} * ${biasOf(s, key)}` : score};
      if (at + ${keys}u > end) {
        ${name} = select(vec4f(${MASKED}), ${name}, vec4u(at + ${key}) + vec4u(0u, 1u, 2u, 3u) < vec4u(end));
      }
      top = max(top, max(max(${name}.x, ${name}.y), max(${name}.z, ${name}.w)));`;
      })
    }
${shared("top", (a, b) => `max(${a}, ${b})`)}
      if (top > m${s} + ${SLACK}.0) {
        let fade = exp2(m${s} - top);
        m${s} = top;
        l${s} *= fade;
        ${factor(row(s))} = fade;
        // Before the first step, there is nothing to rescale.
        if (at > 0u) { grown = 1u; }
      } else {
        ${factor(row(s))} = 1.0;
      }
${
      unroll(eights, (g) =>
        `      {
        let a = exp2(s${g}_0 - m${s});
        let b = exp2(s${g}_1 - m${s});
        l${s} += dot(a + b, vec4f(1.0));
        let c = vec4u(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
        weights[${row(s)} * ${weightsWide}u + ${eight(g)}] = select(c, c.zwxy, turned != 0u);
      }`)
    }
    }`
  );

  const sums = `    if (busy) {
      for (var j = 0u; j < ${keys}u; j += ${k}u) {
${
    band((b) =>
      `        let e${b} = subgroupMatrixLoad<${left}, row_major>(&weights, (own + ${
        b * m
      }u) * ${weightsWide}u + j / 8u, ${weightsWide}u);`
    )
  }
${
    unroll(across, (c) =>
      `        {
          let t = subgroupMatrixLoad<${right}, row_major>(&staged, j * ${stagedWide}u + ${c * n / 8}u + part * ${
        channels / 8
      }u, ${stagedWide}u);
${band((b) => `          o${b}_${c} = subgroupMatrixMultiplyAccumulate(e${b}, t, o${b}_${c});`)}
        }`)
  }
      }
    }`;

  /** Writes outputs through the area of the scores, as many channels at a time as fit into a subgroup's share of it. */
  const together = Math.min(ownKeys, channels);
  const outputs = (line: (first: number) => string) =>
    unroll(
      channels / together,
      (piece) =>
        `${
          band((b) =>
            unroll(together / n, (c) =>
              `      subgroupMatrixStore<row_major>(&scores, (own + ${b * m}u) * ${scoresWide}u + part * ${
                together / 4
              }u + ${c * n / 4}u, o${b}_${piece * together / n + c}, ${scoresWide}u);`)
          )
        }
      workgroupBarrier();
${line(piece * together)}
      workgroupBarrier();`,
    );
  const rescale = `    if (workgroupUniformLoad(&grown) != 0u) {
${
    outputs((from) =>
      `      for (var i = lane; i < ${owned * together / 4}u; i += ${subgroup}u) {
        let row = own + i / ${together / 4}u;
        scores[row * ${scoresWide}u + part * ${together / 4}u + i % ${together / 4}u] *= ${factor("row")};
      }
      workgroupBarrier();
${
        band((b) =>
          unroll(together / n, (c) =>
            `      o${b}_${from / n + c} = subgroupMatrixLoad<${result}, row_major>(&scores, (own + ${
              b * m
            }u) * ${scoresWide}u + part * ${together / 4}u + ${c * n / 4}u, ${scoresWide}u);`)
        )
      }`
    )
  }
      grown = 0u;
    }`;

  return {
    name: `attention_matrix_${callName(call)}_${matrixName(tile)}`,
    matrix: true,
    buffers: forwardBuffers(call, "vec4u", w.buffers),
    params: w.params,
    workgroupSize: [threads, 1, 1],
    declarations: `${w.declarations}${PACKED}
var<workgroup> staged: array<vec4u, ${(stagedSize(tile, headDim) - PAD_F16) / 8}>;
var<workgroup> scores: array<vec4f, ${rows * scoresWide}>;
var<workgroup> weights: array<vec4u, ${rows * weightsWide - PAD_F16 / 8}>;
var<workgroup> grown: u32;`,
    body: `${w.begin("wid.x")}
  let lane = li % ${subgroup}u;
  // Rows that are read at once lie in different banks if half of the threads start with the second half of their
  // eights.
  let turned = lane / 4u % 2u;
  let own = li / ${sharing * subgroup}u * ${owned}u;
  let part = ${sharing > 1 ? `li / ${subgroup}u % ${sharing}u` : "0u"};
  // Subgroups without a query only help to stage operands.
  let busy = first + own <= last;
  // Scores are powers of two, because GPUs compute exp2 fast.
  let scale = p.scale * ${LOG2_E};
${loadQueries}
${band((b) => unroll(across, (c) => `  var o${b}_${c} = ${result}();`))}
${pass((s) => `  var m${s} = ${MASKED}; var l${s} = 0.0;`)}
${
      w.steps(
        ahead
          ? {
            first: `${fetched("k")}
${fetch("k")}
${stage("k")}
  workgroupBarrier();`,
            body: `${fetched("v")}
${fetch("v")}
${scores(demanded("v"))}`,
            // Rescaling starts with a barrier.
            rest: `    workgroupBarrier();
${fetch("k", w.next)}
${softmax}
${stage("v")}
${rescale}
${sums}
${demanded("k")}
    workgroupBarrier();
${stage("k")}`,
          }
          : {
            body: `${fetched("k")}
${fetch("k")}
${stage("k")}
    workgroupBarrier();
${scores()}
    workgroupBarrier();
${fetched("v")}
${fetch("v")}
${softmax}
${stage("v")}
${rescale}
${sums}`,
          },
      )
    }
${
      pass((s) =>
        `  {
${shared(`l${s}`, (a, b) => `${a} + ${b}`)}
    ${factor(row(s))} = 1.0 / l${s};
${
          lse
            ? `    if (lane < ${atOnce}u && first + ${row(s)} <= last) {
      lse[${w.outer(`first + ${row(s)}`)} * p.heads + h] = m${s} * ${LN_2} + log(l${s});
    }`
            : ""
        }
  }`
      )
    }
${
      outputs((from) =>
        `      for (var i = li; i < ${rows * sharing * together / 4}u; i += ${threads}u) {
        let row = i / ${sharing * together / 4}u;
        let c = i % ${sharing * together / 4}u;
        if (first + row <= last) {
          let channel = c / ${together / 4}u * ${channels / 4}u + ${from / 4}u + c % ${together / 4}u;
          y[${w.outer("first + row")} * p.dim4 + head + channel] = scores[row * ${scoresWide}u + c] * ${factor("row")};
        }
      }`
      )
    }`,
  };
});
