/**
 * Attention by matrix units: f16 operands, f32 sums. A subgroup owns queries: their operands and outputs stay in its
 * registers, their softmax is made by its own threads. Matrices in registers cannot be touched number by number, so
 * scores pass through workgroup memory, and weights back; outputs do so only at the end, and where they must be scaled.
 *
 * That is rare: weights may be as large as 2^8, so outputs follow a query's largest score only when it has grown by more
 * than 8 (in powers of two; as FlashAttention-4 has it).
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";
import { memo } from "../memo.ts";
import { walkAhead } from "./ahead.ts";
import { callName, forwardBuffers, type ForwardCall, LN_2, LOG2_E } from "./forward.ts";
import { PACKED } from "./pack.ts";
import { MASKED } from "./walk.ts";

/** How a workgroup shares its work. */
export interface MatrixTile {
  readonly units: MatrixUnits;
  readonly subgroups: number;
  /** Queries of a subgroup. */
  readonly rows: number;
  /** Keys of a step. */
  readonly keys: number;
}

/** Queries of a workgroup. */
export const matrixRows = ({ subgroups, rows }: MatrixTile): number => subgroups * rows;

/** Rows of f16 and of f32 are so much longer than they need be, so that neighbours lie in different banks. */
const PAD_F16 = 8, PAD_F32 = 4;
/** Threads that share a query's softmax: each has eights of scores, every so-manieth. */
const LANES = 4;
/** A query's outputs are scaled when its largest score has grown by more than this. */
const SLACK = 8;

/** Numbers of the area where keys and values are staged, and before them the queries: at least as wide as a matrix. */
function stagedSize(tile: MatrixTile, headDim: number): number {
  return Math.max(tile.keys * (headDim + PAD_F16), matrixRows(tile) * (tile.units.k + PAD_F16));
}

/** Bytes of workgroup memory that a tile takes. */
export function matrixBytes(tile: MatrixTile, headDim: number): number {
  const rows = matrixRows(tile), { keys } = tile;
  return stagedSize(tile, headDim) * 2 + rows * (keys + PAD_F32) * 4 + rows * (keys + PAD_F16) * 2 + rows * 4 +
    keys * 4 + 4;
}

/** A kernel of this file. */
export interface MatrixAttention extends ForwardCall {
  readonly tile: MatrixTile;
}

/** See the module. Keys and values come as `pack.ts` leaves them. Outer rows are queries, inner rows keys. */
export const attentionMatrix = memo(({ tile, ...call }: MatrixAttention): KernelSource => {
  const { units: { m, n, k, subgroup }, subgroups, rows: owned, keys } = tile;
  const { headDim, bias, plan, lse } = call;
  const rows = matrixRows(tile), threads = subgroups * subgroup;
  const w = walkAhead({ plan, rows, step: keys, threads, sorted: true });
  const bands = owned / m, deep = headDim / k, across = headDim / n;
  // All memory that matrices come from is counted in 16 bytes, eight f16 or four f32: so it begins where they must.
  const stagedWide = (headDim + PAD_F16) / 8, scoresWide = (keys + PAD_F32) / 4, weightsWide = (keys + PAD_F16) / 8;
  /** Passes in which a subgroup's threads take its queries for the softmax, and a thread's eights of scores in each. */
  const passes = owned * LANES / subgroup, eights = keys / LANES / 8;
  const left = `subgroup_matrix_left<f16, ${k}, ${m}>`, right = `subgroup_matrix_right<f16, ${n}, ${k}>`;
  const result = `subgroup_matrix_result<f32, ${n}, ${m}>`;

  const band = (line: (b: number) => string) => unroll(bands, line);
  const pass = (line: (s: number) => string) => unroll(passes, line);
  const row = (s: number) => `(own + ${s * subgroup / LANES}u + lane / ${LANES}u)`;
  /** The first key of a thread's g-th eight, in eights. */
  const eight = (g: number) => `(lane % ${LANES}u + ${LANES * g}u)`;

  // As many channels of the queries at once as fit where keys are staged later.
  let width = headDim;
  while (rows * (width + PAD_F16) > stagedSize(tile, headDim)) width /= 2;
  const wide = (width + PAD_F16) / 8;
  const loadQueries = unroll(
    headDim / width,
    (piece) =>
      `  for (var i = li; i < ${rows * width / 8}u; i += ${threads}u) {
    let row = i / ${width / 8}u;
    let c = i % ${width / 8}u;
    let source = ${w.outer("first + row")} * p.dim4 + head + ${piece * width / 4}u + 2u * c;
    staged[row * ${wide}u + c] = packed(q[source], q[source + 1u]);
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
  workgroupBarrier();`,
  );

  const perRow = headDim / 8, loads = Math.ceil(keys * perRow / threads);
  const each = (i: number, code: string) =>
    (i + 1) * threads > keys * perRow ? `if (li + ${i * threads}u < ${keys * perRow}u) { ${code} }` : code;
  const fetch = (from: string) =>
    unroll(
      loads,
      (i) =>
        `    var ${from}${i}: vec4u;
    ${
          each(
            i,
            `${from}${i} = ${from}[(${
              w.inner(`(li + ${i * threads}u) / ${perRow}u`)
            } * nwg.y + wid.y) * ${perRow}u + (li + ${i * threads}u) % ${perRow}u];`,
          )
        }`,
    );
  const stage = (from: string) =>
    unroll(loads, (i) =>
      `    ${
        each(
          i,
          `staged[(li + ${i * threads}u) / ${perRow}u * ${stagedWide}u + (li + ${
            i * threads
          }u) % ${perRow}u] = ${from}${i};`,
        )
      }`);

  // Sums are set to zero by a value: Dawn clears a variable without one only the first time round a loop.
  const scores = `    if (busy) {
      for (var j = 0u; j < ${keys}u; j += ${n}u) {
${band((b) => `        var s${b} = ${result}();`)}
${
    unroll(deep, (d) =>
      `        {
          let t = subgroupMatrixLoad<${right}, col_major>(&staged, j * ${stagedWide}u + ${d * k / 8}u, ${stagedWide}u);
${band((b) => `          s${b} = subgroupMatrixMultiplyAccumulate(q${b}_${d}, t, s${b});`)}
        }`)
  }
${
    band((b) =>
      `        subgroupMatrixStore<row_major>(&scores, (own + ${
        b * m
      }u) * ${scoresWide}u + j / 4u, s${b}, ${scoresWide}u);`
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
    unroll(Math.log2(LANES), (bit) => `      ${name} = ${both(name, `subgroupShuffleXor(${name}, ${1 << bit}u)`)};`);
  const softmax = pass((s) =>
    `    {
      var top = ${MASKED};
${
      fours((g, half) => {
        const key = `8u * ${eight(g)} + ${4 * half}u`, name = `s${g}_${half}`;
        const scaled = `scores[${row(s)} * ${scoresWide}u + 2u * ${eight(g)} + ${half}u] * (p.scale * ${LOG2_E})`;
        const score = bias ? `${scaled} + ${LOG2_E} * ${biasOf(s, key)}` : scaled;
        return `      let ${name} = select(vec4f(${MASKED}), ${score}, vec4u(at + ${key}) + vec4u(0u, 1u, 2u, 3u) < vec4u(end));
      top = max(top, max(max(${name}.x, ${name}.y), max(${name}.z, ${name}.w)));`;
      })
    }
${shared("top", (a, b) => `max(${a}, ${b})`)}
      if (top > m${s} + ${SLACK}.0) {
        let fade = exp2(m${s} - top);
        m${s} = top;
        l${s} *= fade;
        factors[${row(s)}] = fade;
        // Before the first step there is nothing to scale.
        if (at > 0u) { grown = 1u; }
      } else {
        factors[${row(s)}] = 1.0;
      }
${
      unroll(eights, (g) =>
        `      {
        let e = vec4u(${
          [0, 1].map((half) =>
            ["xy", "zw"].map((pair) => `pack2x16float(exp2(s${g}_${half}.${pair} - m${s}))`).join(", ")
          ).join(", ")
        });
        weights[${row(s)} * ${weightsWide}u + ${eight(g)}] = e;
        // As they were rounded, so that weights add up to one.
        l${s} += dot(unpack2x16float(e.x) + unpack2x16float(e.y) + unpack2x16float(e.z) + unpack2x16float(e.w), vec2f(1.0));
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
          let t = subgroupMatrixLoad<${right}, row_major>(&staged, j * ${stagedWide}u + ${c * n / 8}u, ${stagedWide}u);
${band((b) => `          o${b}_${c} = subgroupMatrixMultiplyAccumulate(e${b}, t, o${b}_${c});`)}
        }`)
  }
      }
    }`;

  /** Outputs through the area of the scores, as many channels at once as it is wide. */
  const together = Math.min(keys, headDim);
  const outputs = (line: (first: number) => string) =>
    unroll(
      headDim / together,
      (piece) =>
        `${
          band((b) =>
            unroll(together / n, (c) =>
              `      subgroupMatrixStore<row_major>(&scores, (own + ${b * m}u) * ${scoresWide}u + ${
                c * n / 4
              }u, o${b}_${piece * together / n + c}, ${scoresWide}u);`)
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
        scores[row * ${scoresWide}u + i % ${together / 4}u] *= factors[row];
      }
      workgroupBarrier();
${
        band((b) =>
          unroll(together / n, (c) =>
            `      o${b}_${from / n + c} = subgroupMatrixLoad<${result}, row_major>(&scores, (own + ${
              b * m
            }u) * ${scoresWide}u + ${c * n / 4}u, ${scoresWide}u);`)
        )
      }`
    )
  }
      grown = 0u;
    }`;

  return {
    name: `attention_matrix_${callName(call)}_${subgroups}x${owned}x${keys}`,
    matrix: true,
    buffers: forwardBuffers(call, "vec4u", w.buffers),
    params: w.params,
    workgroupSize: [threads, 1, 1],
    declarations: `${w.declarations}${PACKED}
var<workgroup> staged: array<vec4u, ${stagedSize(tile, headDim) / 8}>;
var<workgroup> scores: array<vec4f, ${rows * scoresWide}>;
var<workgroup> weights: array<vec4u, ${rows * weightsWide}>;
var<workgroup> factors: array<f32, ${rows}>;
var<workgroup> grown: u32;`,
    body: `${w.begin("wid.x")}
  let lane = li % ${subgroup}u;
  let own = li / ${subgroup}u * ${owned}u;
  // Subgroups without a query only help to stage.
  let busy = first + own <= last;
${loadQueries}
${band((b) => unroll(across, (c) => `  var o${b}_${c} = ${result}();`))}
${pass((s) => `  var m${s} = ${MASKED}; var l${s} = 0.0;`)}
${
      w.steps(`${fetch("k")}
${stage("k")}
    workgroupBarrier();
${scores}
    workgroupBarrier();
${fetch("v")}
${softmax}
${stage("v")}
${rescale}
${sums}`)
    }
${
      pass((s) =>
        `  {
${shared(`l${s}`, (a, b) => `${a} + ${b}`)}
    factors[${row(s)}] = 1.0 / l${s};
${
          lse
            ? `    if (lane % ${LANES}u == 0u && first + ${row(s)} <= last) {
      lse[${w.outer(`first + ${row(s)}`)} * p.heads + h] = m${s} * ${LN_2} + log(l${s});
    }`
            : ""
        }
  }`
      )
    }
${
      outputs((from) =>
        `      for (var i = li; i < ${rows * together / 4}u; i += ${threads}u) {
        let row = i / ${together / 4}u;
        let c = i % ${together / 4}u;
        if (first + row <= last) {
          y[${w.outer("first + row")} * p.dim4 + head + ${from / 4}u + c] =
            scores[row * ${scoresWide}u + c] * factors[row];
        }
      }`
      )
    }`,
  };
});
