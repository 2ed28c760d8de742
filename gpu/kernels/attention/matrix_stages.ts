/**
 * The stages of attention by matrix units, in the order in which they run. Each is a function that returns WGSL.
 *
 * Three areas of workgroup memory connect them: `staged` (queries at first, then keys and values in turn), `scores`
 * and `weights`. Their sizes and offsets are counted in units of 16 bytes (eight f16 or four f32), so that matrices are
 * aligned.
 *
 * @module
 */
import { unroll } from "../../kernel.ts";
import type { ForwardCall } from "./forward.ts";
import type { LookaheadLoop } from "./lookahead.ts";
import { MASKED } from "./loop.ts";
import { LANES, type MatrixLayout, PAD_F16, repeat } from "./matrix_layout.ts";
import { PACKED } from "./pack.ts";

/**
 * A query's outputs are rescaled when its largest score has grown by more than this, in powers of two. Weights may thus
 * be as large as 2^8, and rescaling is rare, as in FlashAttention-4.
 */
const SLACK = 8;

/** Declares the areas, and whether any query's outputs must be rescaled. */
export function declareAreas({ stagedSize, rows, scoresWide, weightsWide }: MatrixLayout): string {
  return `${PACKED}
var<workgroup> staged: array<vec4u, ${(stagedSize - PAD_F16) / 8}>;
var<workgroup> scores: array<vec4f, ${rows * scoresWide}>;
var<workgroup> weights: array<vec4u, ${rows * weightsWide - PAD_F16 / 8}>;
var<workgroup> grown: u32;`;
}

/** Defines a thread's share of the work: the first query that its subgroup owns, and the subgroup's part of these. */
export function beginThread({ subgroup, sharing, owned }: MatrixLayout): string {
  return `  let lane = li % ${subgroup}u;
  // Rows that are read at once lie in different banks if half of the threads start with the second half of their
  // eights.
  let turned = lane / 4u % 2u;
  let own = li / ${sharing * subgroup}u * ${owned}u;
  let part = ${sharing > 1 ? `li / ${subgroup}u % ${sharing}u` : "0u"};
  // Subgroups without a query only help to stage operands.
  let busy = first + own <= last;
  // Scores are powers of two, because GPUs compute exp2 fast.
  let scale = p.scale * ${Math.LOG2E};`;
}

/** A thread's i-th group of eight numbers among those of several rows. */
interface Cell {
  readonly row: string;
  readonly eight: string;
  /** WGSL that runs only if there is such a group. */
  guard(code: string): string;
}

/** Distributes the groups of eight of some rows over the threads of the workgroup. */
function cells({ threads }: MatrixLayout, rows: number, perRow: number): Cell[] {
  const count = rows * perRow;
  return Array.from({ length: Math.ceil(count / threads) }, (_, i) => {
    const at = `li + ${i * threads}u`;
    const whole = (i + 1) * threads <= count;
    return {
      row: `(${at}) / ${perRow}u`,
      eight: `(${at}) % ${perRow}u`,
      guard: (code) => whole ? `{ ${code} }` : `if (${at} < ${count}u) { ${code} }`,
    };
  });
}

const each = (of: readonly Cell[], line: (cell: Cell, i: number) => string) => of.map(line).join("\n");

/**
 * Converts the queries to f16 and loads them into matrices, which stay in registers. As many channels are staged at
 * once as fit into the area. All are read before any is staged, so that the kernel waits only once.
 */
export function loadQueries(layout: MatrixLayout, { outer }: LookaheadLoop): string {
  const { headDim, rows, stagedSize, m, k, left, bands } = layout;
  let width = headDim;
  while (rows * (width + PAD_F16) > stagedSize) width /= 2;
  const wide = (width + PAD_F16) / 8, own = cells(layout, rows, width / 8), pieces = repeat(headDim / width);
  const read = pieces((piece) =>
    each(own, ({ row, eight, guard }, i) =>
      `  var query${piece}_${i}: vec4u;
  ${
        guard(`
    let source = ${outer(`first + ${row}`)} * p.dim4 + head + ${piece * width / 4}u + 2u * (${eight});
    query${piece}_${i} = packed(q[source] * scale, q[source + 1u] * scale);`)
      }`)
  );
  const load = (b: number, d: number, name: string) =>
    `  let ${name} = subgroupMatrixLoad<${left}, row_major>(&staged, (own + ${b * m}u) * ${wide}u + ${
      d * k / 8
    }u, ${wide}u);`;
  return `${read}
${
    pieces((piece) =>
      `${
        each(
          own,
          ({ row, eight, guard }, i) => `  ${guard(`staged[${row} * ${wide}u + ${eight}] = query${piece}_${i};`)}`,
        )
      }
  workgroupBarrier();
${bands((b) => unroll(width / k, (d) => load(b, d, `q${b}_${piece * width / k + d}`)))}
  workgroupBarrier();`
    )
  }`;
}

/** Declares the sums: a subgroup's outputs, and each query's maximum and sum of weights. */
export function startSums({ bands, across, rounds, result }: MatrixLayout): string {
  return `${bands((b) => unroll(across, (c) => `  var o${b}_${c} = ${result}();`))}
${rounds((s) => `  var m${s} = ${MASKED}; var l${s} = 0.0;`)}`;
}

/** How a step's keys or values get into `staged`. */
export interface Staging {
  /** Declares the registers in which they wait. */
  readonly declare: string;
  /** Reads them, given the row of the operand for a row of the step. */
  read(rowOf: (row: string) => string): string;
  readonly stage: string;
  /**
   * A fake use that makes the reads complete before the barrier. Without it, compilers postpone a read until its value
   * is needed, behind a barrier, where nothing hides the wait. The branch is harmless if it is taken.
   */
  readonly complete: string;
}

/** Reads and stages the packed keys or values of a step. */
export function staging(layout: MatrixLayout, from: "k" | "v"): Staging {
  const { keys, headDim, stagedWide } = layout, perRow = headDim / 8, own = cells(layout, keys, perRow);
  return {
    declare: each(own, (_, i) => `    var ${from}${i}: vec4u;`),
    read: (rowOf) =>
      each(
        own,
        ({ row, eight, guard }, i) =>
          `    ${guard(`${from}${i} = ${from}[(${rowOf(row)} * nwg.y + wid.y) * ${perRow}u + ${eight}];`)}`,
      ),
    stage: each(
      own,
      ({ row, eight, guard }, i) => `    ${guard(`staged[${row} * ${stagedWide}u + ${eight}] = ${from}${i};`)}`,
    ),
    complete: `    if ((${own.map((_, i) => `${from}${i}.x`).join(" ^ ")}) == 0x7ff17ff1u) { grown = 1u; }`,
  };
}

/**
 * Scores: queries by keys. Up to four products are independent of one another, so that none waits for another's sum.
 *
 * @param before WGSL that runs before the scores are stored
 */
export function scores(layout: MatrixLayout, before = ""): string {
  const { headDim, m, n, k, ownKeys, stagedWide, scoresWide, bands, right, result } = layout;
  const side = repeat(Math.min(ownKeys / n, 4));
  const multiply = (d: number, i: number) =>
    `        {
          let t = subgroupMatrixLoad<${right}, col_major>(&staged, (j + ${i * n}u) * ${stagedWide}u + ${
      d * k / 8
    }u, ${stagedWide}u);
${bands((b) => `          s${b}_${i} = subgroupMatrixMultiplyAccumulate(q${b}_${d}, t, s${b}_${i});`)}
        }`;
  const store = (b: number, i: number) =>
    `        subgroupMatrixStore<row_major>(&scores, (own + ${b * m}u) * ${scoresWide}u + (j + ${
      i * n
    }u) / 4u, s${b}_${i}, ${scoresWide}u);`;
  // Sums are initialized with an explicit value: Dawn clears a variable without one only in the first pass of a loop.
  return `    if (busy) {
      for (var j = part * ${ownKeys}u; j < (part + 1u) * ${ownKeys}u; j += ${Math.min(ownKeys, 4 * n)}u) {
${bands((b) => side((i) => `        var s${b}_${i} = ${result}();`))}
${unroll(headDim / k, (d) => side((i) => multiply(d, i)))}
${before}
${bands((b) => side((i) => store(b, i)))}
      }
    }`;
}

/** The row of a thread's query in round `s`. Neighbouring threads have neighbouring queries. */
const queryRow = ({ owned, sharing, atOnce }: MatrixLayout, s: number) =>
  `(own + part * ${owned / sharing}u + ${s * atOnce}u + lane % ${atOnce}u)`;

/** The factor for a query's outputs. It is stored at the end of the query's row of scores. */
const factor = ({ keys, scoresWide }: MatrixLayout, row: string) => `scores[${row} * ${scoresWide}u + ${keys / 4}u].x`;

/** Combines a value over the threads that share a query. */
const combine = ({ atOnce }: MatrixLayout, name: string, both: (a: string, b: string) => string) =>
  unroll(Math.log2(LANES), (bit) => `      ${name} = ${both(name, `subgroupShuffleXor(${name}, ${atOnce << bit}u)`)};`);

/**
 * The running softmax: turns scores into weights in f16, adds them up, and notes the factor by which a query's earlier
 * outputs must be rescaled.
 */
export function softmax(layout: MatrixLayout, { bias }: ForwardCall): string {
  const { keys, rounds, eights, atOnce, scoresWide, weightsWide } = layout;
  /** The first key of a thread's g-th group of eight, counted in eights. */
  const eight = (g: number) => `(lane / ${atOnce}u + ${LANES * g}u)`;
  const biasOf = (row: string, key: string) =>
    `vec4f(${
      [0, 1, 2, 3].map((i) =>
        `bias[(h * p.outer + min(first + ${row}, last)) * p.inner + min(at + ${key} + ${i}u, end - 1u)]`
      )
    })`;
  const load = (row: string, g: number, half: number) => {
    const key = `8u * ${eight(g)} + 4u * (${half}u ^ turned)`, name = `s${g}_${half}`;
    const score = `scores[${row} * ${scoresWide}u + 2u * ${eight(g)} + (${half}u ^ turned)]`;
    return `      var ${name} = ${bias ? `${score} + ${Math.LOG2E} * ${biasOf(row, key)}` : score};
      if (at + ${keys}u > end) {
        ${name} = select(vec4f(${MASKED}), ${name}, vec4u(at + ${key}) + vec4u(0u, 1u, 2u, 3u) < vec4u(end));
      }
      top = max(top, max(max(${name}.x, ${name}.y), max(${name}.z, ${name}.w)));`;
  };
  const weigh = (row: string, s: number, g: number) =>
    `      {
        let a = exp2(s${g}_0 - m${s});
        let b = exp2(s${g}_1 - m${s});
        l${s} += dot(a + b, vec4f(1.0));
        let c = vec4u(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
        weights[${row} * ${weightsWide}u + ${eight(g)}] = select(c, c.zwxy, turned != 0u);
      }`;
  return rounds((s) => {
    const row = queryRow(layout, s);
    return `    {
      var top = ${MASKED};
${unroll(eights, (g) => unroll(2, (half) => load(row, g, half)))}
${combine(layout, "top", (a, b) => `max(${a}, ${b})`)}
      if (top > m${s} + ${SLACK}.0) {
        let fade = exp2(m${s} - top);
        m${s} = top;
        l${s} *= fade;
        ${factor(layout, row)} = fade;
        // Before the first step, there is nothing to rescale.
        if (at > 0u) { grown = 1u; }
      } else {
        ${factor(layout, row)} = 1.0;
      }
${unroll(eights, (g) => weigh(row, s, g))}
    }`;
  });
}

/**
 * Passes outputs through the area of the scores, as many channels at a time as fit into a subgroup's share of it.
 *
 * @param use WGSL that does something with them there, given the first channel and how many there are
 */
function throughScores(layout: MatrixLayout, use: (from: number, together: number) => string): string {
  const { ownKeys, channels, n, scoresWide, bands } = layout, together = Math.min(ownKeys, channels);
  return unroll(
    channels / together,
    (piece) =>
      `${
        bands((b) =>
          unroll(together / n, (c) =>
            `      subgroupMatrixStore<row_major>(&scores, ${outputsAt(layout, b, c)}, o${b}_${
              piece * together / n + c
            }, ${scoresWide}u);`)
        )
      }
      workgroupBarrier();
${use(piece * together, together)}
      workgroupBarrier();`,
  );
}

/** Where {@link throughScores} stores the c-th matrix of a band. */
function outputsAt({ ownKeys, channels, m, n, scoresWide }: MatrixLayout, b: number, c: number): string {
  return `(own + ${b * m}u) * ${scoresWide}u + part * ${Math.min(ownKeys, channels) / 4}u + ${c * n / 4}u`;
}

/** Rescales the outputs where a query's maximum has grown. */
export function rescale(layout: MatrixLayout): string {
  const { owned, subgroup, n, scoresWide, bands, result } = layout;
  return `    if (workgroupUniformLoad(&grown) != 0u) {
${
    throughScores(layout, (from, together) =>
      `      for (var i = lane; i < ${owned * together / 4}u; i += ${subgroup}u) {
        let row = own + i / ${together / 4}u;
        scores[row * ${scoresWide}u + part * ${together / 4}u + i % ${together / 4}u] *= ${factor(layout, "row")};
      }
      workgroupBarrier();
${
        bands((b) =>
          unroll(together / n, (c) =>
            `      o${b}_${from / n + c} = subgroupMatrixLoad<${result}, row_major>(&scores, ${
              outputsAt(layout, b, c)
            }, ${scoresWide}u);`)
        )
      }`)
  }
      grown = 0u;
    }`;
}

/** Adds the values, weighted, to the outputs. */
export function weightedSum(layout: MatrixLayout): string {
  const { keys, channels, across, m, n, k, stagedWide, weightsWide, bands, left, right } = layout;
  return `    if (busy) {
      for (var j = 0u; j < ${keys}u; j += ${k}u) {
${
    bands((b) =>
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
${bands((b) => `          o${b}_${c} = subgroupMatrixMultiplyAccumulate(e${b}, t, o${b}_${c});`)}
        }`)
  }
      }
    }`;
}

/** Divides the outputs by the sums of weights and writes them, and each query's log-sum-exp where it is wanted. */
export function epilogue(layout: MatrixLayout, { outer }: LookaheadLoop, { lse }: ForwardCall): string {
  const { rows, threads, sharing, channels, atOnce, scoresWide, rounds } = layout;
  const normalize = (s: number, row: string) =>
    `  {
${combine(layout, `l${s}`, (a, b) => `${a} + ${b}`)}
    ${factor(layout, row)} = 1.0 / l${s};
${
      lse
        ? `    if (lane < ${atOnce}u && first + ${row} <= last) {
      lse[${outer(`first + ${row}`)} * p.heads + h] = m${s} * ${Math.LN2} + log(l${s});
    }`
        : ""
    }
  }`;
  return `${rounds((s) => normalize(s, queryRow(layout, s)))}
${
    throughScores(layout, (from, together) =>
      `      for (var i = li; i < ${rows * sharing * together / 4}u; i += ${threads}u) {
        let row = i / ${sharing * together / 4}u;
        let c = i % ${sharing * together / 4}u;
        if (first + row <= last) {
          let channel = c / ${together / 4}u * ${channels / 4}u + ${from / 4}u + c % ${together / 4}u;
          y[${outer("first + row")} * p.dim4 + head + channel] = scores[row * ${scoresWide}u + c] * ${
        factor(layout, "row")
      };
        }
      }`)
  }`;
}
