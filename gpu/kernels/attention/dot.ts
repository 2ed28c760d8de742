import { I8_MAX } from "../../formats/i8.ts";
import { type KernelSource, read, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { callName, forwardBuffers, type ForwardCall } from "./forward.ts";
import { type LookaheadLoop, lookaheadLoop } from "./lookahead.ts";
import { MASKED } from "./loop.ts";

/** How a workgroup shares its work. All numbers are powers of two. */
export interface DotTile {
  /** The number of queries of a block. */
  readonly rows: number;
  /** The number of keys of a step. */
  readonly keys: number;
  readonly threads: number;
  /** The number of threads that share a query. Twice as many lie in one subgroup. */
  readonly across: number;
  /** The number of channels that are staged at once, in sixteens. */
  readonly depth: number;
}

/** The numbers that follow from a tile and a head dimension. */
type Layout = ReturnType<typeof layoutOf>;

function layoutOf({ rows, keys, threads, across, ...tile }: DotTile, headDim: number) {
  const depth = Math.min(tile.depth, headDim / 16), down = threads / across, held = rows / down;
  // Rows are padded by sixteen numbers, so that neighbouring rows lie in different banks.
  const wide = depth + 1, keysWide = keys / 16 + 1;
  /** Queries and keys, and later values, are staged in one area. */
  const staged = Math.max((rows + keys) * wide, headDim * keysWide);
  return {
    ...{ rows, keys, threads, across, depth, down, held, headDim, wide, keysWide, staged },
    /** The sixteens and the fours of a row, and the groups of four keys and of four channels of a thread. */
    ...{ sixteens: headDim / 16, quads: headDim / 4, fours: keys / 4 / across, columns: headDim / 4 / across },
    bytes: 16 * (staged + rows * keysWide) + 8 * keys,
    /** Repeats WGSL for each query of a thread. */
    mine: (line: (i: number) => string) => unroll(held, line),
  };
}

/** The bytes of workgroup memory that a tile uses. */
export const dotBytes = (tile: DotTile, headDim: number): number => layoutOf(tile, headDim).bytes;

/** Whether a tile can be used for a head dimension. */
export const dotFits = ({ keys, threads, across }: DotTile, headDim: number): boolean =>
  headDim % (4 * across) === 0 && keys % (4 * across) === 0 && threads % (2 * across) === 0;

/**
 * Makes the attention kernel for GPUs by dot products of four i8 numbers, with exact sums. It has the form of `tiled.ts`.
 * Queries and keys are rounded by row, values by channel. The weights of a step are rounded, too: the largest of a query
 * becomes 127, so that steps of small weights lose no more than others.
 *
 * The operands must be in the layout that `pack.ts` writes. A bias is not supported.
 */
export const attentionDot = memo(({ tile, ...call }: ForwardCall & { readonly tile: DotTile }): KernelSource => {
  if (call.bias) throw new Error("attention in int8 takes no bias");
  const layout = layoutOf(tile, call.headDim), { rows, keys, threads, across, depth, staged, keysWide, mine } = layout;
  const loop = lookaheadLoop({ plan: call.plan, rows, step: keys, threads, sorted: true });
  return {
    name: `attention_dot_${callName(call)}_${rows}x${keys}x${threads}x${across}x${depth}`,
    subgroups: true,
    buffers: {
      ...forwardBuffers(call, "vec4u", loop.buffers),
      ...{ q: read("vec4u"), v: read("u32"), q_scales: read("f32"), k_scales: read("f32"), v_scales: read("vec4f") },
    },
    params: { ...loop.params, query_rows: "u32" },
    workgroupSize: [threads, 1, 1],
    declarations: `${loop.declarations}
var<workgroup> staged: array<vec4u, ${staged}>;
var<workgroup> weights: array<array<u32, 4>, ${rows * keysWide}>;
${TRANSPOSED}`,
    body: `${loop.begin("wid.x")}
  // Neighbouring threads take two queries in turn, so pairs of them read the same keys and values: half the traffic.
  let lane = li / 2u % ${across}u;
  let lane_row = li % 2u + 2u * (li / ${2 * across}u);
  let own_queries = (wid.z * nwg.y + wid.y) * p.query_rows + first;
${
      mine((i) =>
        `  let query_scale${i} = q_scales[own_queries + ${queryRow(layout, i)}];
  var m${i} = ${MASKED}; var l${i} = 0.0; ${unroll(layout.columns, (c) => `var o${i}_${c} = vec4f();`)}`
      )
    }
${loop.steps({ body: `${scores(layout, loop)}\n${softmax(layout)}\n${weightedSum(layout, loop)}` })}
${epilogue(layout, loop, call)}`,
  };
});

/** WGSL that transposes four words of four bytes: the i-th word of the result has the i-th byte of each. */
const TRANSPOSED = `
fn transposed(rows: vec4u) -> vec4u {
  let even = (rows.xz & vec2u(0x00ff00ffu)) | ((rows.yw & vec2u(0x00ff00ffu)) << vec2u(8u));
  let odd = ((rows.xz >> vec2u(8u)) & vec2u(0x00ff00ffu)) | (rows.yw & vec2u(0xff00ff00u));
  return vec4u(
    (even.x & 0xffffu) | (even.y << 16u), (odd.x & 0xffffu) | (odd.y << 16u),
    (even.x >> 16u) | (even.y & 0xffff0000u), (odd.x >> 16u) | (odd.y & 0xffff0000u),
  );
}`;

/** The row of a thread's i-th query. */
const queryRow = ({ down }: Layout, i: number) => `(lane_row + ${down * i}u)`;

/** The first key of a thread's g-th group of four in a step. */
const keyOf = ({ across }: Layout, g: number) => `(4u * lane + ${4 * across * g}u)`;

/** Repeats WGSL for the units of some rows that a thread stages, given the index of the unit. */
const units = ({ threads }: Layout, count: number, line: (i: string) => string) =>
  unroll(Math.ceil(count / threads), (n) => {
    const code = `let i = li + ${n * threads}u; ${line("i")}`;
    return (n + 1) * threads <= count ? `      { ${code} }` : `      if (li + ${n * threads}u < ${count}u) { ${code} }`;
  });

const dot = (a: string, b: string) => ["x", "y", "z", "w"].map((c) => `dot4I8Packed(${a}.${c}, ${b}.${c})`).join(" + ");

/** Scores in powers of two, because GPUs compute exp2 fast. Queries and keys are staged some channels at a time. */
function scores(layout: Layout, { inner }: LookaheadLoop): string {
  const { rows, keys, across, depth, sixteens, wide, fours, mine } = layout, keysAt = rows * wide;
  // A thread's four keys follow one another. Those that threads read at once lie side by side.
  const place = (row: string) =>
    `((${row} / ${4 * across}u * 4u + ${row} % 4u) * ${across}u + ${row} / 4u % ${across}u)`;
  return `${mine((i) => unroll(fours, (g) => `    var sum${i}_${g} = vec4i();`))}
    for (var c0 = 0u; c0 < ${sixteens}u; c0 += ${depth}u) {
      if (c0 > 0u) { workgroupBarrier(); }
${
    units(layout, rows * depth, (i) =>
      `staged[${i} / ${depth}u * ${wide}u + ${i} % ${depth}u] = q[(own_queries + ${i} / ${depth}u) * ${sixteens}u + c0 + ${i} % ${depth}u];`)
  }
${
    units(layout, keys * depth, (i) =>
      `let row = ${i} / ${depth}u; staged[${keysAt}u + ${place("row")} * ${wide}u + ${i} % ${depth}u] = k[${
        inner("row")
      } * ${sixteens}u + c0 + ${i} % ${depth}u];`)
  }
      workgroupBarrier();
      for (var c = 0u; c < ${depth}u; c++) {
${mine((i) => `        let a${i} = staged[${queryRow(layout, i)} * ${wide}u + c];`)}
${
    unroll(fours, (g) =>
      unroll(4, (j) =>
        `        {
          let t = staged[${keysAt + (4 * g + j) * across * wide}u + lane * ${wide}u + c];
${mine((i) => `          sum${i}_${g}[${j}] += ${dot(`a${i}`, "t")};`)}
        }`))
  }
      }
    }
${
    unroll(fours, (g) =>
      `    let scales${g} = vec4f(${
        [0, 1, 2, 3].map((j) =>
          `k_scales[${inner(`(${keyOf(layout, g)} + ${j}u)`)}]`
        ).join(", ")
      });
    let inside${g} = vec4u(at + ${keyOf(layout, g)}) + vec4u(0u, 1u, 2u, 3u) < vec4u(end);`)
  }
${
    mine((i) =>
      unroll(fours, (g) =>
        `    let s${i}_${g} = select(vec4f(${MASKED}), vec4f(sum${i}_${g}) * (scales${g} * query_scale${i}), inside${g});`)
    )
  }`;
}

/** Combines the values in `name` of all threads that share a query. */
const combine = ({ across, mine }: Layout, name: string, both: (a: string, b: string) => string) =>
  mine((i) =>
    unroll(
      Math.log2(across),
      (bit) => `    ${name}${i} = ${both(name + i, `subgroupShuffleXor(${name}${i}, ${2 << bit}u)`)};`,
    )
  );

/**
 * The running softmax. It rounds the weights of a step, and adds up what it rounded. `part` is the factor from the
 * rounded weights of a step to those of all steps, `fade` that from earlier sums.
 */
function softmax(layout: Layout): string {
  const { fours, across, keysWide, mine } = layout;
  const most = (i: number) =>
    Array.from({ length: fours }, (_, g) => `max(max(s${i}_${g}.x, s${i}_${g}.y), max(s${i}_${g}.z, s${i}_${g}.w))`)
      .reduce((a, b) => `max(${a}, ${b})`);
  // A number from 0 to 255, added to 1.5·2^23, is in the lowest byte of the sum.
  const weigh = (i: number, g: number) =>
    `      {
        let w = bitcast<vec4u>(fma(exp2(s${i}_${g} - top${i}), vec4f(${I8_MAX}.0), vec4f(12582912.0))) & vec4u(0xffu);
        rounded += w.x + w.y + w.z + w.w;
        weights[${queryRow(layout, i)} * ${keysWide}u + lane / 4u + ${
      across / 4 * g
    }u][lane % 4u] = w.x | (w.y << 8u) | (w.z << 16u) | (w.w << 24u);
      }`;
  return `${mine((i) => `    var top${i} = ${most(i)};`)}
${combine(layout, "top", (a, b) => `max(${a}, ${b})`)}
${
    mine((i) =>
      `    let above${i} = max(m${i}, top${i});
    let fade${i} = exp2(m${i} - above${i});
    let part${i} = exp2(top${i} - above${i});
    m${i} = above${i};
    {
      var rounded = 0u;
${unroll(fours, (g) => weigh(i, g))}
      l${i} = l${i} * fade${i} + f32(rounded) * part${i};
    }`
    )
  }
    workgroupBarrier();`;
}

/**
 * Adds the values, weighted, to the outputs. Values are staged by channel: sixteen keys of a channel lie together. First
 * come the first channels of all fours, then the second ones, so that threads write to different banks.
 */
function weightedSum(layout: Layout, { inner }: LookaheadLoop): string {
  const { keys, quads, keysWide, across, columns, mine } = layout;
  const number = [0, 1, 2, 3];
  // A thread stages sixteen keys of four channels.
  const stage = (i: string) => `
        let sixteen = ${i} / ${quads}u;
        let quad = ${i} % ${quads}u;
${
    unroll(4, (n) =>
      `        let v${n} = transposed(vec4u(${
        number.map((j) =>
          `v[${inner(`(16u * sixteen + ${4 * n + j}u)`)} * ${quads}u + quad]`
        ).join(", ")
      }));`)
  }
${
    unroll(4, (c) =>
      `        staged[(quad + ${quads * c}u) * ${keysWide}u + sixteen] = vec4u(${
        number.map((n) =>
          `v${n}[${c}]`
        ).join(", ")
      });`)
  }
      `;
  return `${units(layout, quads * keys / 16, stage)}
    workgroupBarrier();
    {
${mine((i) => unroll(columns, (c) => `      var t${i}_${c} = vec4i();`))}
      for (var g = 0u; g < ${keys / 16}u; g++) {
${
    mine((i) =>
      `        let found${i} = weights[${queryRow(layout, i)} * ${keysWide}u + g];
        let w${i} = vec4u(found${i}[0], found${i}[1], found${i}[2], found${i}[3]);`
    )
  }
${
    unroll(columns, (c) =>
      unroll(4, (j) =>
        `        {
          let t = staged[(lane + ${across * c + quads * j}u) * ${keysWide}u + g];
${mine((i) => `          t${i}_${c}[${j}] += ${dot(`w${i}`, "t")};`)}
        }`))
  }
      }
${
    mine((i) =>
      unroll(columns, (c) => `      o${i}_${c} = fma(o${i}_${c}, vec4f(fade${i}), vec4f(t${i}_${c}) * part${i});`)
    )
  }
    }`;
}

/** Divides the outputs by the sums of weights and writes them, and each query's log-sum-exp where it is wanted. */
function epilogue(layout: Layout, { outer }: LookaheadLoop, { lse }: ForwardCall): string {
  const { across, columns, quads, mine } = layout;
  const write = (i: number, row: string) =>
    `  if (first + ${row} <= last) {
    let token = ${outer(`first + ${row}`)};
${lse ? `    if (lane == 0u) { lse[token * p.heads + h] = m${i} * ${Math.LN2} + log(l${i} / ${I8_MAX}.0); }` : ""}
${
      unroll(columns, (c) =>
        `    y[token * p.dim4 + head + lane + ${
          across * c
        }u] = o${i}_${c} / l${i} * v_scales[(wid.z * p.heads + h) * ${quads}u + lane + ${across * c}u];`)
    }
  }`;
  return `${combine(layout, "l", (a, b) => `${a} + ${b}`)}
${mine((i) => write(i, queryRow(layout, i)))}`;
}
