/**
 * The backward pass of attention by matrix units: operands in f16, sums in f32. The mathematics is in `backward.ts`.
 *
 * A kernel holds *outer* rows and loops over *inner* rows. For the gradients of queries, outer rows are queries with the
 * gradients of their outputs, inner rows keys with values; for those of keys and values, it is the reverse. Either way
 * there are two products of scores: of the first operands (queries and keys) and of the second (values and gradients).
 * They pass through workgroup memory, because WGSL cannot access single elements of a matrix in registers, and come back
 * as weights in f16.
 *
 * @module
 */
import { type KernelSource, read, unroll, write } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";
import { memo } from "../memo.ts";
import { lookaheadLoop } from "./lookahead.ts";

/** How a workgroup shares its work. */
export interface BackwardTile {
  readonly units: MatrixUnits;
  /**
   * The number of groups of subgroups side by side, and of subgroups in each: one, or two of which each computes one of
   * the two products of scores, and half of the gradients.
   */
  readonly subgroups: readonly [beside: number, sharing: 1 | 2];
  /** The number of outer rows of a group. */
  readonly rows: number;
  /** The number of inner rows of a step. */
  readonly step: number;
}

/** The number of outer rows of a workgroup. */
export const backwardRows = ({ subgroups, rows }: Pick<BackwardTile, "subgroups" | "rows">): number =>
  subgroups[0] * rows;

/** A short name. */
export const backwardTileName = ({ subgroups: [beside, sharing], rows, step }: Omit<BackwardTile, "units">): string =>
  `${beside}x${rows}x${step}${sharing > 1 ? "_by_2" : ""}`;

/** Weights are multiplied by 2 to the power of this, so that f16 holds those of many thousand keys. */
const WEIGHT_BITS = 10;
/** The largest finite f16. */
const MOST = "vec4f(65504.0)";

/** Sizes in workgroup memory, in units of 16 bytes, and what follows from a tile. */
function layoutOf({ units, subgroups: [beside, sharing], rows: owned, step }: BackwardTile, headDim: number) {
  const { m, n, k, subgroup } = units, rows = beside * owned;
  /** A row of staged operands and of scores, with gaps that put neighbouring rows into different banks. */
  const wide = headDim / 8 + 1, scoreWide = step / 4 + 1;
  const staged = 2 * step * wide, scores = 2 * rows * scoreWide;
  /** The rows of scores that a subgroup turns into weights at once: two threads have sixteen neighbours. */
  const atOnce = subgroup / 2, rounds = owned * step / 16 / atOnce;
  return {
    ...{ m, n, k, subgroup, beside, sharing, owned, rows, step, headDim, wide, scoreWide, staged, scores },
    ...{ atOnce, rounds, threads: beside * sharing * subgroup, bands: owned / m, chunks: step / 16 },
    bytes: 16 * (staged + scores) + 8 * step * 2,
    left: `subgroup_matrix_left<f16, ${k}, ${m}>`,
    right: `subgroup_matrix_right<f16, ${n}, ${k}>`,
    result: `subgroup_matrix_result<f32, ${n}, ${m}>`,
  };
}
type Layout = ReturnType<typeof layoutOf>;

/** The bytes of workgroup memory that a tile takes. */
export const backwardTileBytes = (tile: BackwardTile, headDim: number): number => layoutOf(tile, headDim).bytes;

/** Whether the shape of the units divides a tile. */
export function backwardFits(tile: BackwardTile, headDim: number): boolean {
  const { m, n, k, owned, step, sharing, atOnce } = layoutOf(tile, headDim);
  const sides = [[owned, m], [step, n], [step, k], [step, 16], [16, n], [16, k], [headDim, k], [headDim / sharing, n]];
  return [...sides, [headDim / sharing, step], [owned, atOnce]].every(([length, side]) => length! % side! === 0);
}

/** What is computed: the gradients of queries, or of keys and values. */
export interface MatrixBackward {
  readonly headDim: number;
  readonly plan: boolean;
  readonly of: "q" | "kv";
  readonly tile: BackwardTile;
}

/** Makes the kernel. Operands are packed as by `backward_pack.ts`, queries times scale · log₂ e. */
export const attentionBackwardMatrix = memo((variant: MatrixBackward): KernelSource => {
  const { headDim, plan, of, tile } = variant, layout = layoutOf(tile, headDim);
  const { rows, step, threads, sharing, staged, scores } = layout;
  const loop = lookaheadLoop({ plan, rows, step, threads, sorted: true });
  const staging = stagingOf(layout, of), sides = sidesOf(layout);
  return {
    name: `attention_backward_${of}_matrix_${headDim}${plan ? "_plan" : ""}_${backwardTileName(tile)}`,
    matrix: true,
    buffers: {
      /** outer and inner rows of the two products of scores */
      ...{ a0: read("vec4u"), a1: read("vec4u"), b0: read("vec4u"), b1: read("vec4u") },
      figures: read("vec2f"),
      head_scale: read("f32"),
      ...loop.buffers,
      ...of === "q" ? { dq: write("vec4f") } : { dk: write("vec4f"), dv: write("vec4f") },
    },
    params: { ...loop.params, has_head_scale: "u32", outer_rows: "u32" },
    workgroupSize: [threads, 1, 1],
    declarations: `${loop.declarations}
var<workgroup> staged: array<vec4u, ${staged}>;
var<workgroup> scores: array<vec4u, ${scores}>;
${of === "kv" ? `var<workgroup> columns: array<vec2f, ${step}>;` : ""}
fn eight(a: vec4f, b: vec4f) -> vec4u {
  return vec4u(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
}`,
    body: `${loop.begin("wid.x")}
  var factor = ${2 ** -WEIGHT_BITS};
  if (p.has_head_scale != 0u) { factor *= head_scale[wid.z * p.heads + h]; }
${beginThread(layout)}
${loadOuter(layout, sides)}
${of === "q" ? rowFigures(layout) : ""}
${startSums(layout, of, sides)}
${staging.declare}
${
      loop.steps({
        first: `${staging.read(loop.inner)}
${staging.stage}
  workgroupBarrier();`,
        body: `${multiply(layout, sides)}`,
        rest: `    workgroupBarrier();
${staging.read(loop.next)}
${weigh(layout, of)}
    workgroupBarrier();
${accumulate(layout, of, sides)}
    workgroupBarrier();
${staging.stage}`,
      })
    }
${store(layout, of, sharing, loop.outer)}`,
  };
});

/** The products that a subgroup computes: their suffixes in names, and WGSL of their indices. */
const sidesOf = ({ sharing }: Layout): readonly (readonly [name: string, index: string])[] =>
  sharing > 1 ? [["", "part"]] : [["0_", "0u"], ["1_", "1u"]];
type Sides = ReturnType<typeof sidesOf>;

/** Defines a thread's share of the work. */
function beginThread({ subgroup, sharing, owned }: Layout): string {
  return `  let lane = li % ${subgroup}u;
  let own = li / ${sharing * subgroup}u * ${owned}u;
  let part = ${sharing > 1 ? `li / ${subgroup}u % 2u` : "0u"};
  // Subgroups without a row only help to stage operands.
  let busy = first + own <= last;
  let packed_first = (wid.z * nwg.y + wid.y) * p.outer_rows + first;`;
}

/** Loads the outer rows into matrices, which stay in registers. Rows past the last are other rows, or undefined. */
function loadOuter({ headDim, m, k, bands, left, sharing }: Layout, sides: Sides): string {
  const per = headDim / 8;
  const load = (from: number, b: number, d: number) =>
    `subgroupMatrixLoad<${left}, row_major>(&a${from}, (packed_first + own + ${b * m}u) * ${per}u + ${
      d * k / 8
    }u, ${per}u)`;
  const all = (line: (b: number, d: number) => string) => unroll(bands, (b) => unroll(headDim / k, (d) => line(b, d)));
  if (sharing === 1) {
    return sides.map(([side], i) => all((b, d) => `  let x${side}${b}_${d} = ${load(i, b, d)};`)).join("\n");
  }
  return `${all((b, d) => `  var x${b}_${d}: ${left};`)}
  if (part == 0u) {
${all((b, d) => `    x${b}_${d} = ${load(0, b, d)};`)}
  } else {
${all((b, d) => `    x${b}_${d} = ${load(1, b, d)};`)}
  }`;
}

/** The rounds of turning scores into weights that a subgroup does. */
function roundsOf({ rounds, sharing }: Layout) {
  return { each: Math.ceil(rounds / sharing), idle: rounds % sharing !== 0 };
}

/** WGSL of the row among those of a group, and of the sixteen columns, of a thread in a round. */
function placeOf({ atOnce, owned, sharing }: Layout, round: number) {
  const index = sharing > 1 ? `(${round * sharing}u + part)` : `${round}u`;
  const perChunk = owned / atOnce;
  return { row: `(${index} % ${perChunk}u * ${atOnce}u + lane % ${atOnce}u)`, chunk: `(${index} / ${perChunk}u)` };
}

/** The figures of outer rows that are queries. */
function rowFigures(layout: Layout): string {
  const { each, idle } = roundsOf(layout);
  return unroll(each, (r) => {
    const { row } = placeOf(layout, r);
    return `  ${
      idle ? `var figures${r} = vec2f(); if (part == 0u) { figures${r} =` : `let figures${r} =`
    } figures[packed_first + min(own + ${row}, last - first)];${idle ? " }" : ""}`;
  });
}

/** The sums of a subgroup: which gradient, and the number of matrices along its channels. */
function sumsOf({ sharing, headDim, n }: Layout, of: "q" | "kv", sides: Sides) {
  return of === "kv"
    ? { names: sides.map(([side]) => `o${side}`), matrices: headDim / n }
    : { names: ["o"], matrices: headDim / sharing / n };
}

function startSums(layout: Layout, of: "q" | "kv", sides: Sides): string {
  const { names, matrices } = sumsOf(layout, of, sides);
  return names.map((name) =>
    unroll(layout.bands, (b) => unroll(matrices, (c) => `  var ${name}${b}_${c} = ${layout.result}();`))
  ).join("\n");
}

/** How the inner rows of a step get into workgroup memory: read one step ahead, staged between barriers. */
function stagingOf({ step, headDim, wide, threads }: Layout, of: "q" | "kv") {
  const per = headDim / 8, count = step * per, share = Math.ceil(count / threads);
  const all = (line: (side: number, i: number, row: string, part: string) => string) =>
    [0, 1].map((side) =>
      unroll(share, (i) => {
        const at = `(li + ${i * threads}u)`, code = line(side, i, `(${at} / ${per}u)`, `${at} % ${per}u`);
        return (i + 1) * threads <= count ? `    ${code}` : `    if (${at} < ${count}u) { ${code} }`;
      })
    ).join("\n");
  return {
    declare: [0, 1].map((side) => unroll(share, (i) => `  var next${side}_${i}: vec4u;`)).join("\n") +
      (of === "kv" ? "\n  var next_column: vec2f;" : ""),
    read: (rowOf: (row: string) => string) =>
      all((side, i, row, part) => `next${side}_${i} = b${side}[${rowOf(row)} * ${per}u + ${part}];`) +
      (of === "kv" ? `\n    if (li < ${step}u) { next_column = figures[${rowOf("li")}]; }` : ""),
    stage:
      all((side, i, row, part) => `staged[${side * step * wide}u + ${row} * ${wide}u + ${part}] = next${side}_${i};`) +
      (of === "kv" ? `\n    if (li < ${step}u) { columns[li] = next_column; }` : ""),
  };
}

/** Both products of scores, and their way into workgroup memory. */
function multiply(layout: Layout, sides: Sides): string {
  const { headDim, n, m, k, bands, wide, step, scoreWide, rows, right, result } = layout, across = step / n;
  const product = ([side, index]: Sides[number]) =>
    `${unroll(bands, (b) => unroll(across, (i) => `    var s${side}${b}_${i} = ${result}();`))}
    if (busy) {
${
      unroll(headDim / k, (d) =>
        unroll(across, (i) =>
          `      {
        let t = subgroupMatrixLoad<${right}, col_major>(&staged, ${index} * ${step * wide}u + ${
            i * n * wide + d * k / 8
          }u, ${wide}u);
${
            unroll(
              bands,
              (b) =>
                `        s${side}${b}_${i} = subgroupMatrixMultiplyAccumulate(x${side}${b}_${d}, t, s${side}${b}_${i});`,
            )
          }
      }`))
    }
    }
${
      unroll(
        bands,
        (b) =>
          unroll(across, (i) =>
            `    subgroupMatrixStore<row_major>(&scores, (${index} * ${rows}u + own + ${b * m}u) * ${scoreWide}u + ${
              i * n / 4
            }u, s${side}${b}_${i}, ${scoreWide}u);`),
      )
    }`;
  return sides.map(product).join("\n");
}

/**
 * Turns scores into weights. Two threads have sixteen neighbours of a row: the first of them writes P, where these are
 * needed, over its own scores, the second dS over its own.
 */
function weigh(layout: Layout, of: "q" | "kv"): string {
  const { rows, scoreWide, atOnce } = layout, { each, idle } = roundsOf(layout);
  const one = (r: number) => {
    const { row, chunk } = placeOf(layout, r);
    const numbers = (i: number) => `vec4u(at + first_column + ${4 * i}u) + vec4u(0u, 1u, 2u, 3u) < vec4u(end)`;
    const columns = (i: number, c: "x" | "y") =>
      of === "q"
        ? `figures${r}.${c}`
        : `vec4f(${[0, 1, 2, 3].map((j) => `columns[first_column + ${4 * i + j}u].${c}`)})`;
    const code = `      {
      let place = (own + ${row}) * ${scoreWide}u + ${chunk} * 4u + pair * 2u;
      let first_column = ${chunk} * 16u + pair * 8u;
      let s0 = bitcast<vec4f>(scores[place]); let s1 = bitcast<vec4f>(scores[place + 1u]);
      let t0 = bitcast<vec4f>(scores[place + ${rows * scoreWide}u]); let t1 = bitcast<vec4f>(scores[place + ${
      rows * scoreWide + 1
    }u]);
      var p0 = exp2(s0 - (${columns(0, "x")} - ${WEIGHT_BITS}.0)); var p1 = exp2(s1 - (${
      columns(1, "x")
    } - ${WEIGHT_BITS}.0));
      if (at + ${layout.step}u > end) {
        p0 = select(vec4f(), p0, ${numbers(0)}); p1 = select(vec4f(), p1, ${numbers(1)});
      }
      let ds = eight(clamp(p0 * (t0 - ${columns(0, "y")}), -${MOST}, ${MOST}), clamp(p1 * (t1 - ${
      columns(1, "y")
    }), -${MOST}, ${MOST}));
${
      of === "q"
        ? `      let other = subgroupShuffleXor(ds, ${atOnce}u);
      if (pair == 0u) { scores[place] = ds; scores[place + 1u] = other; }`
        : `      let ps = eight(p0, p1);
      let other = subgroupShuffleXor(select(ps, ds, pair == 0u), ${atOnce}u);
      scores[place] = select(other, ps, pair == 0u);
      scores[place + 1u] = select(ds, other, pair == 0u);`
    }
      }`;
    return idle && r === each - 1 ? `    if (part == 0u) {\n${code}\n    }` : code;
  };
  return `    let pair = lane / ${atOnce}u;\n${unroll(each, one)}`;
}

/** Adds the products of weights and inner rows to the sums. */
function accumulate(layout: Layout, of: "q" | "kv", sides: Sides): string {
  const { step, k, m, n, bands, scoreWide, wide, left, right, headDim, sharing } = layout;
  const { names, matrices } = sumsOf(layout, of, sides);
  // dS is beside the first operands of inner rows, P beside the second. The order in a chunk: P, dS; queries have only dS.
  const weights = (side: string, index: string, j: number) => {
    const chunk = Math.floor(j * k / 16) * 4, inside = j * k % 16 / 8;
    const which = of === "q" ? "" : `(1u - ${index}) * 2u + `;
    return unroll(
      bands,
      (b) =>
        `      let e${side}${b}_${j} = subgroupMatrixLoad<${left}, row_major>(&scores, ${which}(own + ${
          b * m
        }u) * ${scoreWide}u + ${chunk + inside}u, ${scoreWide}u);`,
    );
  };
  const add = (side: string, index: string, name: string) =>
    unroll(step / k, (j) =>
      `${weights(side, index, j)}
${
        unroll(matrices, (c) =>
          `      {
        let t = subgroupMatrixLoad<${right}, row_major>(&staged, ${
            of === "q" ? (sharing > 1 ? `part * ${headDim / 16}u + ` : "") : `${index} * ${step * wide}u + `
          }${j * k * wide + c * n / 8}u, ${wide}u);
${
            unroll(
              bands,
              (b) =>
                `        ${name}${b}_${c} = subgroupMatrixMultiplyAccumulate(e${side}${b}_${j}, t, ${name}${b}_${c});`,
            )
          }
      }`)
      }`);
  const products = of === "q"
    ? add("", "0u", "o")
    : sides.map(([side, index], i) => add(side, index, names[i]!)).join("\n");
  return `    if (busy) {
${products}
    }`;
}

/** Adds the sums to the gradients. They pass through the area of scores, as many channels at a time as a step has rows. */
function store(layout: Layout, of: "q" | "kv", sharing: number, outer: (row: string) => string): string {
  const { step, m, n, bands, owned, subgroup, scoreWide, rows, headDim } = layout;
  const across = of === "q" ? headDim / sharing : headDim;
  /** One after the other, unless two subgroups have an area of their own. */
  const write = (name: string, area: string, to: (at: string, value: string) => string, first: string) =>
    unroll(
      across / step,
      (piece) =>
        `${
          unroll(bands, (b) =>
            unroll(step / n, (c) =>
              `  subgroupMatrixStore<row_major>(&scores, (${area} * ${rows}u + own + ${b * m}u) * ${scoreWide}u + ${
                c * n / 4
              }u, ${name}${b}_${piece * step / n + c}, ${scoreWide}u);`))
        }
  workgroupBarrier();
  for (var i = lane; i < ${owned * step / 4}u; i += ${subgroup}u) {
    let row = own + i / ${step / 4}u;
    if (first + row <= last) {
      let at_row = ${outer("first + row")} * p.dim4 + head + ${first}${piece * step / 4}u + i % ${step / 4}u;
      let sum = bitcast<vec4f>(scores[(${area} * ${rows}u + row) * ${scoreWide}u + i % ${step / 4}u]);
      ${to("at_row", "sum")}
    }
  }
  workgroupBarrier();`,
    );
  const dq = (at: string, sum: string) => `dq[${at}] += ${sum} * (p.scale * factor);`;
  // Queries were packed times scale · log₂ e.
  const dk = (at: string, sum: string) => `dk[${at}] += ${sum} * (${Math.LN2} * factor);`;
  const dv = (at: string, sum: string) => `dv[${at}] += ${sum} * factor;`;
  if (of === "q") return write("o", "part", dq, sharing > 1 ? `part * ${headDim / 8}u + ` : "");
  if (sharing === 1) return `${write("o0_", "0u", dk, "")}\n${write("o1_", "0u", dv, "")}`;
  return write("o", "part", (at, sum) => `if (part == 0u) { ${dk(at, sum)} } else { ${dv(at, sum)} }`, "");
}
