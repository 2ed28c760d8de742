/**
 * The stages of attention by matrix units, in the order in which they run. Each is a function that returns WGSL.
 *
 * Areas of workgroup memory connect them: `staged` (keys; also values, where they have no area of their own) and `scores`
 * (queries at first, then scores, which become weights). In the end, outputs pass through all of them. WGSL wants barriers
 * also where a subgroup passes numbers to itself.
 *
 * @module
 */
import { unroll } from "../../kernel.ts";
import { indexInPanels } from "../gemm/pack.ts";
import { type ForwardCall, queriesOf, repeatedKey } from "./forward.ts";
import type { LookaheadLoop } from "./lookahead.ts";
import { MASKED } from "./loop.ts";
import { type MatrixLayout, repeat } from "./matrix_layout.ts";
import { PACKED } from "./pack.ts";

/**
 * A query's outputs are rescaled when the weights of one of its threads add up to more than this in a step. It is far
 * less than f16 can hold, and rescaling is rare, as in FlashAttention-4. Weights are added anyway, so this is cheaper
 * than to look for the largest score.
 */
const LARGEST_SUM = "256.0";

/**
 * Declares the areas, a factor for each query, its token where a plan has it, and whether any query's outputs must be
 * rescaled.
 */
export function declareAreas(layout: MatrixLayout, { plan }: ForwardCall): string {
  const { unit, unitType, stagedBytes, valueBytes, scoresBytes, apart, rows, keys, i8 } = layout;
  return `${PACKED}
var<workgroup> staged: array<${unitType}, ${stagedBytes / unit}>;
${apart ? `var<workgroup> staged_values: array<vec4u, ${valueBytes / 16}>;` : ""}
var<workgroup> scores: array<vec4u, ${scoresBytes / 16}>;
var<workgroup> factors: array<f32, ${rows}>;
${plan ? `var<workgroup> query_tokens: array<u32, ${rows}>;` : ""}
var<workgroup> grown: u32;${
    i8
      ? `
var<workgroup> query_scales: array<f32, ${rows}>;
var<workgroup> key_scales: array<vec4f, ${keys / 2}>;`
      : ""
  }`;
}

/**
 * Defines a thread's share of the work: the first query that its group of subgroups owns, the first row of their scores,
 * and the subgroup's part of the work.
 */
export function beginThread({ subgroup, sharing, owned, passed, scoreBytes }: MatrixLayout): string {
  return `  let lane = li % ${subgroup}u;
  // Rows of four-byte scores that are read at once lie in different banks if half of the threads start with the second
  // half of their eights.
  let turned = ${scoreBytes === 4 ? "lane / 4u % 2u" : "0u"};
  let own = li / ${sharing * subgroup}u * ${owned}u;
  let passing = li / ${sharing * subgroup}u * ${passed}u;
  let part = ${sharing > 1 ? `li / ${subgroup}u % ${sharing}u` : "0u"};`;
}

/** A thread's i-th unit among those of several rows. */
interface Cell {
  readonly row: string;
  readonly part: string;
  /** WGSL that runs only if there is such a unit. */
  guard(code: string): string;
}

/** Distributes the units of some rows over the threads of the workgroup. */
function cells({ threads }: MatrixLayout, rows: number, perRow: number): Cell[] {
  const count = rows * perRow;
  return Array.from({ length: Math.ceil(count / threads) }, (_, i) => {
    const at = `li + ${i * threads}u`;
    const whole = (i + 1) * threads <= count;
    return {
      row: `((${at}) / ${perRow}u)`,
      part: `(${at}) % ${perRow}u`,
      guard: (code) => whole ? `{ ${code} }` : `if (${at} < ${count}u) { ${code} }`,
    };
  });
}

const each = (of: readonly Cell[], line: (cell: Cell, i: number) => string) => of.map(line).join("\n");

/** WGSL: the token of a query of the workgroup. With a plan, it is looked up once. */
const tokenOf = ({ outer }: LookaheadLoop, { plan }: ForwardCall, query: string) =>
  plan ? `query_tokens[${query}]` : outer(`first + ${query}`);

/** How queries become matrices, which stay in registers. */
export interface Queries {
  /** Reads them, before a barrier. */
  readonly read: string;
  /** Loads the matrices, after it. A barrier follows before scores are stored. */
  readonly load: string;
}

/** Loads the queries. They are on their way while the first keys are looked up and read. */
export function queries(layout: MatrixLayout, loop: LookaheadLoop, call: ForwardCall): Queries {
  const { rows, threads, i8 } = layout;
  const tokens = `  for (var i = li; i < ${rows}u; i += ${threads}u) { query_tokens[i] = ${
    loop.outer("first + i")
  }; }\n`;
  const { read, load } = i8 ? packedQueries(layout) : convertedQueries(layout, loop, call);
  return { read: `${call.plan ? tokens : ""}${read}`, load };
}

/** Queries in i8 lie in the order of tokens or slots. Rows past the last are those of other blocks, or unused. */
function packedQueries({ headDim, m, depth, bands, unit, perKey, query, rows, threads }: MatrixLayout): Queries {
  const load = (b: number, d: number) =>
    `  let q${b}_${d} = subgroupMatrixLoad<${query}, row_major>(&q, (own_queries + own + ${b * m}u) * ${perKey}u + ${
      d * depth / unit
    }u, ${perKey}u);`;
  return {
    read: `  let own_queries = (wid.z * nwg.y + wid.y) * p.query_rows + first;
  for (var i = li; i < ${rows}u; i += ${threads}u) { query_scales[i] = q_scales[own_queries + i]; }`,
    load: bands((b) => unroll(headDim / depth, (d) => load(b, d))),
  };
}

/**
 * Converts the queries to f16 first. As many channels are staged at once as fit into the area of scores. All are read
 * before any is staged, so that the kernel waits only once.
 */
function convertedQueries(layout: MatrixLayout, { outer }: LookaheadLoop, call: ForwardCall): Queries {
  const { headDim, rows, scoresBytes, m, k, query, bands } = layout, q = queriesOf(call);
  let width = headDim;
  while (2 * rows * (width + 8) > scoresBytes) width /= 2;
  const wide = (width + 8) / 8, own = cells(layout, rows, width / 8), pieces = headDim / width;
  const tokens = each(own, ({ row }, i) => `  let token${i} = ${outer(`first + ${row}`)} * p.dim4 + head;`);
  const read = (piece: number) =>
    each(own, ({ part, guard }, i) =>
      `  var query${piece}_${i}: vec4u;
  ${
        guard(`
    let source = token${i} + ${piece * width / 4}u + 2u * (${part});
    query${piece}_${i} = packed(${q}[source] * scale, ${q}[source + 1u] * scale);`)
      }`);
  const stage = (piece: number) =>
    each(own, ({ row, part, guard }, i) => `  ${guard(`scores[${row} * ${wide}u + ${part}] = query${piece}_${i};`)}`);
  const load = (b: number, d: number, name: string) =>
    `  let ${name} = subgroupMatrixLoad<${query}, row_major>(&scores, (own + ${b * m}u) * ${wide}u + ${
      d * k / 8
    }u, ${wide}u);`;
  const loads = (piece: number) => bands((b) => unroll(width / k, (d) => load(b, d, `q${b}_${piece * width / k + d}`)));
  return {
    read: `  // Scores are powers of two, because GPUs compute exp2 fast.
  let scale = p.scale * ${Math.LOG2E};
${tokens}
${unroll(pieces, read)}
${stage(0)}`,
    load: `${loads(0)}
${
      unroll(pieces - 1, (before) =>
        `  workgroupBarrier();
${stage(before + 1)}
  workgroupBarrier();
${loads(before + 1)}`)
    }`,
  };
}

const turnsOf = ({ turns }: MatrixLayout) => repeat(turns);
const roundsOf = ({ rounds }: MatrixLayout) => repeat(rounds);

/** Declares the sums: a subgroup's outputs, and each query's maximum and sum of weights. */
export function startSums(layout: MatrixLayout): string {
  const { bands, channels, n, result } = layout;
  return `${bands((b) => unroll(channels / n, (c) => `  var o${b}_${c} = ${result}();`))}
${turnsOf(layout)((t) => roundsOf(layout)((s) => `  var m${t}_${s} = ${MASKED}; var l${t}_${s} = 0.0;`))}`;
}

/** How a step's keys or values get into workgroup memory. */
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

/** The area of values. */
const valuesIn = ({ apart }: MatrixLayout) => apart ? "staged_values" : "staged";

/** Reads and stages the packed keys or values of a step. */
export function staging(layout: MatrixLayout, from: "k" | "v"): Staging {
  const { keys, unitType, perKey, keyWide, perValue, valueWide } = layout;
  const [per, wide, type, area] = from === "k"
    ? [perKey, keyWide, unitType, "staged"]
    : [perValue, valueWide, "vec4u", valuesIn(layout)];
  const own = cells(layout, keys, per);
  return {
    declare: each(own, (_, i) => `    var ${from}${i}: ${type};`),
    read: (rowOf) =>
      each(
        own,
        ({ row, part, guard }, i) => `    ${guard(`${from}${i} = ${from}[${rowOf(row)} * ${per}u + ${part}];`)}`,
      ),
    stage: each(
      own,
      ({ row, part, guard }, i) => `    ${guard(`${area}[${row} * ${wide}u + ${part}] = ${from}${i};`)}`,
    ),
    complete: `    if ((${own.map((_, i) => `${from}${i}.x`).join(" ^ ")}) == 0x7ff17ff1u) { grown = 1u; }`,
  };
}

/**
 * The same for the scales of i8 keys. There are two areas of them, for two steps: no thread still reads the one that is
 * overwritten.
 */
export function scaleStaging({ i8, keys }: MatrixLayout): Omit<Staging, "complete"> & { readonly stageNext: string } {
  if (!i8) return { declare: "", read: () => "", stage: "", stageNext: "" };
  const stage = (at: string) => `    if (li < ${keys / 4}u) { key_scales[${at} / 4u % ${keys / 2}u + li] = scales; }`;
  const four = (rowOf: (row: string) => string) => [0, 1, 2, 3].map((i) => `k_scales[${rowOf(`(4u * li + ${i}u)`)}]`);
  return {
    declare: "    var scales: vec4f;",
    read: (rowOf) => `    if (li < ${keys / 4}u) { scales = vec4f(${four(rowOf).join(", ")}); }`,
    stage: stage("at"),
    stageNext: stage(`(at + ${keys}u)`),
  };
}

/** Scores: queries by keys. They are independent of one another, so that none waits for another's sum. */
export function multiplyKeys(layout: MatrixLayout): string {
  const { headDim, ownKeys, n, depth, unit, keyWide, bands, key, score } = layout, side = repeat(ownKeys / n);
  const multiply = (d: number, i: number) =>
    `    {
      let t = subgroupMatrixLoad<${key}, col_major>(&staged, part * ${ownKeys * keyWide}u + ${
      i * n * keyWide + d * depth * keyBytes(layout) / unit
    }u, ${keyWide}u);
${bands((b) => `      s${b}_${i} = subgroupMatrixMultiplyAccumulate(q${b}_${d}, t, s${b}_${i});`)}
    }`;
  // Sums are initialized with an explicit value: Dawn clears a variable without one only in the first pass of a loop.
  return `${bands((b) => side((i) => `    var s${b}_${i} = ${score}();`))}
${unroll(headDim / depth, (d) => side((i) => multiply(d, i)))}`;
}

const keyBytes = ({ i8 }: MatrixLayout) => i8 ? 1 : 2;

/** Stores the scores of a turn. */
export function storeScores(layout: MatrixLayout, turn: number): string {
  const { ownKeys, m, n, bandsOf, scoreBytes, scoresWide } = layout, eachScore = scoreBytes / 16;
  return unroll(
    bandsOf,
    (b) =>
      unroll(
        ownKeys / n,
        (i) =>
          `    subgroupMatrixStore<row_major>(&scores, (passing + ${b * m}u) * ${scoresWide}u + part * ${
            ownKeys * eachScore
          }u + ${i * n * eachScore}u, s${turn * bandsOf + b}_${i}, ${scoresWide}u);`,
      ),
  );
}

/** The row of a thread's query in a round of a turn, among those of a turn. Neighbouring threads have neighbouring rows. */
const rowIn = ({ share, atOnce }: MatrixLayout, s: number) => `part * ${share}u + ${s * atOnce}u + lane % ${atOnce}u`;
/** The same among the queries of the workgroup. */
const queryRow = (layout: MatrixLayout, t: number, s: number) => `own + ${t * layout.passed}u + ${rowIn(layout, s)}`;

/** Combines a value over the threads that share a query. */
const combine = ({ lanes, atOnce }: MatrixLayout, name: string, both: (a: string, b: string) => string) =>
  unroll(
    Math.log2(lanes),
    (bit) => `        ${name} = ${both(name, `subgroupShuffleXor(${name}, ${atOnce << bit}u)`)};`,
  );

/** The first key of a thread's h-th vec4 of scores. Each thread has sixteen keys of a row. */
const keyOf = ({ atOnce }: MatrixLayout, h: number) => `lane / ${atOnce}u * 16u + 4u * (${h}u ^ turned)`;

/** Reads the scales of the keys whose scores a thread has. */
export function readScales({ i8, keys, atOnce }: MatrixLayout): string {
  if (!i8) return "";
  return unroll(
    4,
    (h) => `    let scale${h} = key_scales[at / 4u % ${keys / 2}u + lane / ${atOnce}u * 4u + (${h}u ^ turned)];`,
  );
}

/**
 * The running softmax of a turn: turns scores into weights in f16, adds them up, and notes the factor by which a query's
 * earlier outputs must be rescaled. A thread writes its weights over its own scores.
 */
export function softmax(layout: MatrixLayout, call: ForwardCall, t: number): string {
  const { keys, scoreBytes, scoresWide, i8, atOnce } = layout, rounds = roundsOf(layout), four = repeat(4);
  const halves = scoreBytes === 2;
  const at = (s: number) => `(passing + ${rowIn(layout, s)}) * ${scoresWide}u + lane / ${atOnce}u * ${scoreBytes}u`;
  const biasOf = (s: number, h: number) =>
    `vec4f(${
      [0, 1, 2, 3].map((i) =>
        `bias[(h * p.outer + min(first + ${queryRow(layout, t, s)}, last)) * p.inner + min(at + ${
          keyOf(layout, h)
        } + ${i}u, end - 1u)]`
      )
    })`;
  const load = (s: number, h: number) => {
    const found = halves ? `found${s}_${h >> 1}` : `scores[${at(s)} + (${h}u ^ turned)]`;
    const [a, b] = h % 2 === 0 ? "xy" : "zw";
    const score = halves
      ? `vec4f(unpack2x16float(${found}.${a}), unpack2x16float(${found}.${b}))`
      : i8
      ? `vec4f(bitcast<vec4i>(${found})) * (scale${h} * query_scale${s})`
      : `bitcast<vec4f>(${found})`;
    return `${
      halves && h % 2 === 0 ? `      let ${found} = scores[${at(s)} + ${h / 2}u];\n` : ""
    }      var x${s}_${h} = ${call.bias ? `${score} + ${Math.LOG2E} * ${biasOf(s, h)}` : score};`;
  };
  const mask = (s: number, h: number) => {
    const keys = `(vec4u(at + ${keyOf(layout, h)}) + vec4u(0u, 1u, 2u, 3u))`;
    return `        x${s}_${h} = select(vec4f(${MASKED}), x${s}_${h}${repeatedKey(call, keys)}, ${keys} < vec4u(end));`;
  };
  const highest = (s: number) =>
    [0, 1, 2, 3].map((h) => `max(max(x${s}_${h}.x, x${s}_${h}.y), max(x${s}_${h}.z, x${s}_${h}.w))`)
      .reduce((a, b) => `max(${a}, ${b})`);
  const grow = (s: number) =>
    `${combine(layout, `top${s}`, (a, b) => `max(${a}, ${b})`)}
        if (top${s} > m${t}_${s}) {
          let fade = exp2(m${t}_${s} - top${s});
          m${t}_${s} = top${s};
          l${t}_${s} *= fade;
          factors[${queryRow(layout, t, s)}] = fade;
        } else {
          factors[${queryRow(layout, t, s)}] = 1.0;
        }`;
  const weigh = (s: number, g: number) =>
    `      {
        let a = exp2(x${s}_${2 * g} - m${t}_${s});
        let b = exp2(x${s}_${2 * g + 1} - m${t}_${s});
        sum${s} += dot(a + b, vec4f(1.0));
        let c = vec4u(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
        scores[${at(s)} + ${g}u] = select(c, c.zwxy, turned != 0u);
      }`;
  const weights = rounds((s) => unroll(2, (g) => weigh(s, g)));
  return `    {
${i8 ? rounds((s) => `      let query_scale${s} = query_scales[${queryRow(layout, t, s)}];`) : ""}
${rounds((s) => four((h) => load(s, h)))}
      if (at + ${keys}u ${call.repeats ? ">=" : ">"} end) {
${rounds((s) => four((h) => mask(s, h)))}
      }
${rounds((s) => `      var sum${s} = 0.0;`)}
${weights}
      // Most steps need no more than a vote. In the first step, weights are infinite.
      if (subgroupAny(${Array.from({ length: layout.rounds }, (_, s) => `sum${s} > ${LARGEST_SUM}`).join(" || ")})) {
${rounds((s) => `        var top${s} = ${highest(s)};`)}
${rounds(grow)}
${rounds((s) => `        sum${s} = 0.0;`)}
${weights}
        grew${t} = true;
        // Before the first step, there is nothing to rescale.
        if (at > 0u) { grown = 1u; }
      }
${rounds((s) => `      l${t}_${s} += sum${s};`)}
    }`;
}

/** Declares the weights of a step. They are zero at first. */
export function declareWeights({ bands, keys, k, left }: MatrixLayout): string {
  return bands((b) => unroll(keys / k, (j) => `    var e${b}_${j} = ${left}();`));
}

/** Declares whether any query's outputs must be rescaled. */
export const declareGrowth = (layout: MatrixLayout): string => turnsOf(layout)((t) => `    var grew${t} = false;`);

/** Loads the weights of a turn. */
export function loadWeights(layout: MatrixLayout, turn: number): string {
  const { bandsOf, keys, k, m, left, scoreBytes, scoresWide } = layout;
  // A thread's sixteen weights begin where its scores began.
  const at = (j: number) => Math.floor(j * k / 16) * scoreBytes + j * k % 16 / 8;
  return unroll(
    bandsOf,
    (b) =>
      unroll(
        keys / k,
        (j) =>
          `    e${turn * bandsOf + b}_${j} = subgroupMatrixLoad<${left}, row_major>(&scores, (passing + ${
            b * m
          }u) * ${scoresWide}u + ${at(j)}u, ${scoresWide}u);`,
      ),
  );
}

/**
 * Passes the outputs of a turn's queries through the area of the scores, as many channels at a time as fit. Subgroups
 * that share queries do so one after the other.
 *
 * @param use WGSL that does something with them there, given the first channel
 * @param back WGSL that follows, after a barrier
 */
function throughScores(
  layout: MatrixLayout,
  turn: number,
  use: (from: number) => string,
  back?: (from: number, matrix: (b: number, c: number) => string) => string,
): string {
  const { channels, together, sharing, m, n, scoresWide } = layout;
  const own = (part: number, code: string) => sharing > 1 ? `      if (part == ${part}u) {\n${code}\n      }` : code;
  const placeOf = (row: number, unit: number) => `(passing + ${row}u) * ${scoresWide}u + ${unit}u`;
  const at = (b: number, c: number) => placeOf(b * m, c * n / 4);
  // Both ways to write a place are the same place. Compilers make other code of them: each is where it was measured.
  const place = {
    ...{ turn, area: "scores", wide: scoresWide },
    at: back ? rowsFrom(`passing * ${scoresWide}u`, scoresWide) : placeOf,
  };
  // The next subgroup of a group may overwrite what the one before it still loads, so it waits for it.
  return repeat(sharing)((part) =>
    `${
      unroll(channels / together, (piece) =>
        `${own(part, storeOutputs(layout, { ...place, from: piece * together }))}
      workgroupBarrier();
${own(part, use(piece * together))}
      workgroupBarrier();
${back ? own(part, back(piece * together, at)) : ""}`)
    }${back && part < sharing - 1 ? "\n      workgroupBarrier();" : ""}`
  );
}

/** Where a subgroup stores outputs of a turn's queries, some channels from `from` on: rows of `wide` units. */
interface OutputPlace {
  readonly turn: number;
  readonly from: number;
  readonly area: string;
  /** WGSL: the place of a unit of a row. */
  readonly at: (row: number, unit: number) => string;
  readonly wide: number;
}

/** Places of rows of `wide` units from a first one on. */
const rowsFrom = (first: string, wide: number) => (row: number, unit: number) => `${first} + ${row * wide + unit}u`;

function storeOutputs({ m, n, bandsOf, together }: MatrixLayout, { turn, from, area, at, wide }: OutputPlace): string {
  return unroll(
    bandsOf,
    (b) =>
      unroll(
        together / n,
        (c) =>
          `      subgroupMatrixStore<row_major>(&${area}, ${at(b * m, c * n / 4)}, o${turn * bandsOf + b}_${
            from / n + c
          }, ${wide}u);`,
      ),
  );
}

/** Rescales the outputs where a query's maximum has grown. */
export function rescale(layout: MatrixLayout): string {
  const { passed, together, n, subgroup, bandsOf, scoresWide, result } = layout;
  const scale = (t: number) =>
    `      for (var i = lane; i < ${passed * together / 4}u; i += ${subgroup}u) {
        let row = i / ${together / 4}u;
        let at_output = (passing + row) * ${scoresWide}u + i % ${together / 4}u;
        scores[at_output] = bitcast<vec4u>(bitcast<vec4f>(scores[at_output]) * factors[own + ${t * passed}u + row]);
      }`;
  const load = (t: number, from: number, at: (b: number, c: number) => string) =>
    unroll(
      bandsOf,
      (b) =>
        unroll(together / n, (c) =>
          `      o${t * bandsOf + b}_${from / n + c} = subgroupMatrixLoad<${result}, row_major>(&scores, ${
            at(b, c)
          }, ${scoresWide}u);`),
    );
  return `    if (rescales != 0u) {
      grown = 0u;
${
    turnsOf(layout)((t) =>
      `      if (!grew${t}) {
${roundsOf(layout)((s) => `        factors[${queryRow(layout, t, s)}] = 1.0;`)}
      }`
    )
  }
      workgroupBarrier();
${
    turnsOf(layout)((t) =>
      `${throughScores(layout, t, () => scale(t), (from, at) => load(t, from, at))}
      workgroupBarrier();`
    )
  }
    }`;
}

/** Adds the values, weighted, to the outputs. */
export function weightedSum(layout: MatrixLayout): string {
  const { keys, channels, n, k, valueWide, bands, right } = layout;
  return unroll(keys / k, (j) =>
    unroll(channels / n, (c) =>
      `    {
      let t = subgroupMatrixLoad<${right}, row_major>(&${valuesIn(layout)}, part * ${channels / 8}u + ${
        j * k * valueWide + c * n / 8
      }u, ${valueWide}u);
${bands((b) => `      o${b}_${c} = subgroupMatrixMultiplyAccumulate(e${b}_${j}, t, o${b}_${c});`)}
    }`));
}

/**
 * Divides the outputs by the sums of weights and writes them, and each query's log-sum-exp where it is wanted. The first
 * subgroup of a group passes its outputs through the area of scores, the others through those of keys and values, all at
 * the same time. Without a plan, f16 sums are an exception: subgroups take turns in the area of scores. Why NVIDIA's
 * compiler makes their loop over keys 8 % faster then is not known.
 */
export function epilogue(layout: MatrixLayout, loop: LookaheadLoop, call: ForwardCall): string {
  const { passed, together, channels, subgroup, atOnce, turns, sharing, scoresWide, beside, owned, others, inKeys } =
    layout;
  const { lse, into } = call, wide = together / 4, unitsOf = passed * wide;
  const normalize = (t: number, s: number) => {
    const row = queryRow(layout, t, s);
    return `  {
${combine(layout, `l${t}_${s}`, (a, b) => `${a} + ${b}`)}
    factors[${row}] = 1.0 / l${t}_${s};
${
      lse
        ? `    if (lane < ${atOnce}u && first + ${row} <= last) {
      lse[${tokenOf(loop, call, row)} * p.heads + h] = m${t}_${s} * ${Math.LN2} + log(l${t}_${s});
    }`
        : ""
    }
  }`;
  };
  /** The places of outputs: of the first subgroup of a group, and of others in one of two areas. */
  const places = [
    { on: "part == 0u", area: "scores", first: `passing * ${scoresWide}u`, wide: scoresWide },
    ...inKeys > 0 ? [{ on: `place < ${inKeys}u`, area: "staged", first: `place * ${unitsOf}u`, wide }] : [],
    ...inKeys < others ? [{ on: "", area: valuesIn(layout), first: `(place - ${inKeys}u) * ${unitsOf}u`, wide }] : [],
  ];
  const inPlace = (code: (place: typeof places[number]) => string) =>
    places.map((place, i) => `      ${i < places.length - 1 ? `if (${place.on}) ` : ""}{\n${code(place)}\n      }`)
      .join(" else\n");
  const store = into
    ? `y[2u * (${indexInPanels(into, "token", "(column / 2u)", "(p.dim4 / 2u)")}) + column % 2u] = four_halves(output);`
    : "y[token * p.dim4 + column] = output;";
  const found = `          var found: vec4u;
${inPlace(({ area, first, wide }) => `          found = ${area}[${first} + row * ${wide}u + c];`)}\n`;
  const inTurns = layout.sums === "f16" && !call.plan;
  const write = (t: number, from: number) =>
    `      for (var i = lane; i < ${unitsOf}u; i += ${subgroup}u) {
        let row = i / ${wide}u;
        let c = i % ${wide}u;
        let query = own + ${t * passed}u + row;
        if (first + query <= last) {
${inTurns ? "" : found}          let token = ${tokenOf(loop, call, "query")};
          let column = head + part * ${channels / 4}u + ${from / 4}u + c;
          let output = bitcast<vec4f>(${
      inTurns ? `scores[(passing + row) * ${scoresWide}u + c]` : "found"
    }) * factors[query];
          ${store}
        }
      }`;
  const steps = Array.from({ length: turns * channels / together }, (_, i) => {
    const turn = Math.floor(i * together / channels), from = i * together % channels;
    const store = ({ first, ...place }: typeof places[number]) =>
      storeOutputs(layout, { ...place, at: rowsFrom(first, place.wide), turn, from });
    return `${inPlace(store)}
      workgroupBarrier();
${write(turn, from)}`;
  });
  const normalized = turnsOf(layout)((t) => roundsOf(layout)((s) => normalize(t, s)));
  if (inTurns) return `${normalized}\n${turnsOf(layout)((t) => throughScores(layout, t, (from) => write(t, from)))}`;
  return `${normalized}
${
    sharing > 1
      ? `  // Others may still load values.
  workgroupBarrier();
  let place = (part - 1u) * ${beside}u + own / ${owned}u;`
      : ""
  }
${steps.join("\n      workgroupBarrier();\n")}`;
}
