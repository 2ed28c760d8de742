import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { type LookaheadLoop, lookaheadLoop } from "./lookahead.ts";
import { callName, callParams, forwardBuffers, type ForwardCall, queriesOf, repeatedKey } from "./forward.ts";
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
const DEPTH = 8;

/** The numbers that follow from a tile and a head dimension. */
type Layout = ReturnType<typeof layoutOf>;

function layoutOf({ rows, keys, threads, values, f16, stretch, subgroups, ...tile }: Tile, headDim: number) {
  const d4 = headDim / 4, depth = Math.min(DEPTH, d4), across = Math.min(tile.across, d4), down = threads / across;
  const valueRows = Math.min(keys, values / d4), held = rows / down;
  // Rows are padded by one vec4, so that neighbouring rows lie in different banks.
  const wide = depth + 1, weightsWide = keys / 4 + 1;
  const vec4s = (rows + keys) * wide + rows * weightsWide + valueRows * d4;
  const vec = f16 ? "vec4h" : "vec4f";
  return {
    ...{ rows, keys, threads, f16, stretch, subgroups, d4, depth, across, valueRows, wide, weightsWide },
    /** The distance between two queries of a thread, and the number of these. */
    ...{ down, held },
    /** The number of groups of four keys of a thread. */
    fours: keys / 4 / across,
    /** The number of vec4s of an output that one thread holds. */
    columns: d4 / across,
    /** The type of staged operands, and of the operands and sums of a product. */
    ...{ vec, product: stretch ? "vec4h" : "vec4f" },
    bytes: vec4s * (f16 ? 8 : 16) + (subgroups ? 0 : 4 * rows * across) + 8 * keys,
    /** Repeats WGSL for each query of a thread. */
    mine: (line: (i: number) => string) => unroll(held, line),
  };
}

/** The bytes of workgroup memory that a tile uses. */
export const tileBytes = (tile: Tile, headDim: number): number => layoutOf(tile, headDim).bytes;

/**
 * Makes the attention kernel for GPUs by ordinary arithmetic, with a running softmax, so that scores never leave the
 * chip. A workgroup holds a block of queries (outer rows) and processes the keys (inner rows) in steps. A thread holds
 * the scores and the outputs of the same few queries, so their softmax stays in registers.
 */
export const attentionTiled = memo(({ tile, ...call }: ForwardCall & { readonly tile: Tile }): KernelSource => {
  const layout = layoutOf(tile, call.headDim);
  const { rows, keys, threads, f16, stretch, subgroups, across, depth, valueRows, columns, mine } = layout;
  const loop = lookaheadLoop({ plan: call.plan, rows, step: keys, threads, sorted: f16 });
  return {
    name: `attention_tiled_${callName(call)}_${rows}x${keys}x${threads}x${valueRows}${f16 ? "_f16" : ""}${
      stretch ? `_${stretch}` : ""
    }${subgroups ? "_subgroups" : ""}`,
    f16,
    subgroups,
    buffers: forwardBuffers(call, f16 ? "vec4h" : "vec4f", loop.buffers),
    params: { ...loop.params, ...callParams(call) },
    workgroupSize: [threads, 1, 1],
    declarations: `${loop.declarations}${declareAreas(layout)}`,
    body: `${loop.begin("wid.x")}
  // Neighbouring threads take two queries in turn, so pairs of them read the same vec4 of keys and values: half the
  // traffic.
  let lane = li / 2u % ${across}u;
  let lane_row = li % 2u + 2u * (li / ${2 * across}u);
${
      staged(layout, rows, (n, row) =>
        `  let query${n} = ${loop.outer(`first + ${row}`)} * p.dim4 + head + li % ${depth}u;`)
    }
${mine((i) => `  var m${i} = ${MASKED}; var l${i} = 0.0; ${unroll(columns, (c) => `var o${i}_${c} = vec4f();`)}`)}
${loop.steps({ body: `${scores(layout, loop, call)}\n${softmax(layout, call)}\n${weightedSum(layout, loop)}` })}
${epilogue(layout, loop, call)}`,
  };
});

/**
 * Declares the areas of workgroup memory. The arrays are nested so that a thread's offset is one index, computed outside
 * of the loops; all else is a constant offset from it.
 */
function declareAreas(layout: Layout): string {
  const { vec, wide, down, held, across, fours, weightsWide, columns, valueRows, subgroups } = layout;
  return `
var<workgroup> queries: array<array<array<${vec}, ${wide}>, ${down}>, ${held}>;
var<workgroup> keys: array<array<array<${vec}, ${wide}>, ${across}>, ${4 * fours}>;
var<workgroup> weights: array<array<array<${vec}, ${weightsWide}>, ${down}>, ${held}>;
var<workgroup> values: array<array<array<array<${vec}, ${across}>, ${columns}>, 4>, ${valueRows / 4}>;
${subgroups ? "" : `var<workgroup> partial: array<array<array<f32, ${across}>, ${down}>, ${held}>;`}`;
}

const four = (line: (j: number) => string) => [0, 1, 2, 3].map(line).join(", ");

/** The row of a thread's i-th query. */
const queryRow = ({ down }: Layout, i: number) => `(lane_row + ${down * i}u)`;

/** The index of a key in a step: number j of a thread's g-th group of four. */
const keyOf = ({ across }: Layout, g: number, j: number) => `lane + ${across * (4 * g + j)}u`;

/** Repeats WGSL for each of the rows of which a thread stages a vec4. */
const staged = ({ depth, threads }: Layout, rows: number, line: (n: number, row: string) => string) =>
  unroll(rows * depth / threads, (n) => line(n, `(li / ${depth}u + ${threads / depth * n}u)`));

/** The index of the first vec4 of a row of keys or values. */
const innerRow = ({ f16, d4 }: Layout, { inner }: LookaheadLoop, row: string) =>
  f16 ? `${inner(row)} * ${d4}u` : `${inner(row)} * p.dim4 + head`;

/** Converts a staged operand to the type in which it is multiplied. */
const widened = ({ f16, stretch }: Layout, value: string) => f16 && !stretch ? `vec4f(${value})` : value;

/** Adds a number times `t`, by `fma`: compilers do not combine a scalar-vector product and a sum by themselves. */
const addProduct = ({ product }: Layout, sum: string, a: string) => `${sum} = fma(${product}(${a}), t, ${sum});`;

/**
 * Runs products in stretches: each is summed in f16 and then added to the f32 sums. Without stretches, `body` adds each
 * product to the f32 sums itself.
 *
 * @param count the number of sums of a query: `${sums}0_0` … in f32, `h0_0` … in f16
 */
function inStretches({ stretch, mine }: Layout, sums: string, count: number, body: string): string {
  const each = (line: (name: string) => string) => stretch ? mine((i) => unroll(count, (j) => line(`${i}_${j}`))) : "";
  return `${each((name) => `        var h${name} = vec4h();`)}
${body}
${each((name) => `        ${sums}${name} += vec4f(h${name});`)}`;
}

/** The number of steps of four products between two additions to the f32 sums, at most the given number. */
const together = ({ stretch }: Layout, most: number) => stretch ? Math.min(stretch / 4, most) : 1;

/**
 * Scores in powers of two, because GPUs compute exp2 fast. Queries and keys are staged a few channels at a time. A
 * thread multiplies its queries by groups of four keys, with an outer product for each channel.
 */
function scores(layout: Layout, loop: LookaheadLoop, call: ForwardCall): string {
  const { rows, keys, d4, depth, across, down, fours, vec, product, stretch, mine } = layout, queries = queriesOf(call);
  const steps = together(layout, depth);
  const multiply = (g: number, u: number) =>
    `          {
${unroll(4, (j) => `          let b${j} = ${widened(layout, `keys[${4 * g + j}][lane][c + ${u}u]`)};`)}
${
      unroll(4, (d) =>
        `          { let t = ${product}(${four((j) => `b${j}[${d}]`)}); ${
          mine((i) => addProduct(layout, `${stretch ? "h" : "s"}${i}_${g}`, `a${i}[${d}]`))
        } }`)
    }
        }`;
  return `${mine((i) => unroll(fours, (g) => `    var s${i}_${g} = vec4f();`))}
${staged(layout, keys, (n, row) => `    let key${n} = ${innerRow(layout, loop, row)} + li % ${depth}u;`)}
    for (var c0 = 0u; c0 < ${d4}u; c0 += ${depth}u) {
      if (c0 > 0u) { workgroupBarrier(); }
${
    staged(layout, rows, (n, row) =>
      `      queries[${row} / ${down}u][${row} % ${down}u][li % ${depth}u] = ${vec}(${queries}[query${n} + c0] * (p.scale * ${Math.LOG2E}));`)
  }
${
    staged(layout, keys, (n, row) =>
      `      keys[${row} / ${across}u][${row} % ${across}u][li % ${depth}u] = ${vec}(k[key${n} + c0]);`)
  }
      workgroupBarrier();
      for (var c = 0u; c < ${depth}u; c += ${steps}u) {
${
    inStretches(
      layout,
      "s",
      fours,
      unroll(steps, (u) =>
        `        {
${mine((i) => `        let a${i} = ${widened(layout, `queries[${i}][lane_row][c + ${u}u]`)};`)}
${unroll(fours, (g) => multiply(g, u))}
        }`),
    )
  }
      }
    }`;
}

/** Combines the values in `name` of all threads that share a query. */
function combine({ subgroups, across, mine }: Layout, name: string, both: (a: string, b: string) => string): string {
  if (subgroups) {
    const steps = Math.log2(across);
    return mine((i) =>
      unroll(steps, (bit) => `  ${name}${i} = ${both(name + i, `subgroupShuffleXor(${name}${i}, ${2 << bit}u)`)};`)
    );
  }
  return `${mine((i) => `  partial[${i}][lane_row][lane] = ${name}${i};`)}
  workgroupBarrier();
  for (var t = 1u; t < ${across}u; t++) {
${mine((i) => `    ${name}${i} = ${both(name + i, `partial[${i}][lane_row][(lane + t) % ${across}u]`)};`)}
  }`;
}

/** The running softmax: turns scores into weights, adds these up, and rescales the outputs so far. */
function softmax(layout: Layout, call: ForwardCall): string {
  const { across, fours, columns, vec, mine } = layout;
  const biasOf = (i: number, g: number) =>
    `vec4f(${
      four((j) =>
        `bias[(h * p.outer + min(first + ${queryRow(layout, i)}, last)) * p.inner + min(at + ${
          keyOf(layout, g, j)
        }, end - 1u)]`
      )
    })`;
  const mask = (i: number, g: number) =>
    `${call.bias ? `    s${i}_${g} += ${Math.LOG2E} * ${biasOf(i, g)};` : ""}
    s${i}_${g} = select(vec4f(${MASKED}), s${i}_${g}${repeatedKey(call, `number${g}`)}, inside${g});
    top${i} = max(top${i}, max(max(s${i}_${g}.x, s${i}_${g}.y), max(s${i}_${g}.z, s${i}_${g}.w)));`;
  const weigh = (i: number, g: number) =>
    `    s${i}_${g} = exp2(s${i}_${g} - top${i}); l${i} += dot(s${i}_${g}, vec4f(1.0));
    weights[${i}][lane_row][lane + ${across * g}u] = ${vec}(s${i}_${g});`;
  return `${
    unroll(fours, (g) =>
      `    let number${g} = vec4u(${four((j) => `at + ${keyOf(layout, g, j)}`)});
    let inside${g} = number${g} < vec4u(end);`)
  }
${mine((i) => `    var top${i} = m${i};\n${unroll(fours, (g) => mask(i, g))}`)}
${combine(layout, "top", (a, b) => `max(${a}, ${b})`)}
${
    mine((i) =>
      `    let fade${i} = exp2(m${i} - top${i}); m${i} = top${i}; l${i} *= fade${i};
${unroll(fours, (g) => weigh(i, g))}
${unroll(columns, (c) => `    o${i}_${c} *= fade${i};`)}`
    )
  }`;
}

/**
 * Adds the values, weighted, to the outputs. Values are staged a few rows at a time, in the order of the weights: a
 * thread's four keys follow one another.
 */
function weightedSum(layout: Layout, loop: LookaheadLoop): string {
  const { keys, threads, d4, across, columns, valueRows, vec, stretch, mine } = layout;
  const steps = together(layout, valueRows / 4);
  const keyOfValue = (r: string) => `(${r} / 4u % ${across}u + ${across}u * (${r} % 4u + ${r} / ${4 * across}u * 4u))`;
  const multiply = (u: number, c: number, j: number) =>
    `        { let t = ${widened(layout, `values[g + ${u}u][${j}][${c}][lane]`)}; ${
      mine((i) => addProduct(layout, `${stretch ? "h" : "o"}${i}_${c}`, `w${i}[${j}]`))
    } }`;
  return `    for (var r0 = 0u; r0 < ${keys}u; r0 += ${valueRows}u) {
      if (r0 > 0u) { workgroupBarrier(); }
${
    unroll(valueRows * d4 / threads, (n) =>
      `      {
        let r = li / ${d4}u + ${threads / d4 * n}u;
        let value = v[${innerRow(layout, loop, keyOfValue("(r0 + r)"))} + li % ${d4}u];
        values[r / 4u][r % 4u][li % ${d4}u / ${across}u][li % ${across}u] = ${vec}(value);
      }`)
  }
      workgroupBarrier();
      for (var g = 0u; g < ${valueRows / 4}u; g += ${steps}u) {
${
    inStretches(
      layout,
      "o",
      columns,
      unroll(steps, (u) =>
        `        {
${mine((i) => `        let w${i} = ${widened(layout, `weights[${i}][lane_row][r0 / 4u + g + ${u}u]`)};`)}
${unroll(columns, (c) => unroll(4, (j) => multiply(u, c, j)))}
        }`),
    )
  }
      }
    }`;
}

/** Divides the outputs by the sums of weights and writes them, and each query's log-sum-exp where it is wanted. */
function epilogue(layout: Layout, { outer }: LookaheadLoop, { lse }: ForwardCall): string {
  const { across, columns, mine } = layout;
  const write = (i: number, row: string) =>
    `  if (first + ${row} <= last) {
    let token = ${outer(`first + ${row}`)};
${lse ? `    if (lane == 0u) { lse[token * p.heads + h] = m${i} * ${Math.LN2} + log(l${i}); }` : ""}
${unroll(columns, (c) => `    y[token * p.dim4 + head + lane + ${across * c}u] = o${i}_${c} / l${i};`)}
  }`;
  return `${combine(layout, "l", (a, b) => `${a} + ${b}`)}
${mine((i) => write(i, queryRow(layout, i)))}`;
}
