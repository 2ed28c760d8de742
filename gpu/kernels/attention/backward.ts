/**
 * The backward pass of attention. The scores are never stored: they are recomputed from q, k and the log-sum-exp of
 * each query (Dao et al. 2022, algorithm 4). With P = exp(scale·q·kᵀ − lse), dP = dy·vᵀ, d = Σ dy∘y and
 * dS = P∘(dP − d):
 *
 *     dq += scale·dS·k     dk += scale·dSᵀ·q     dv += Pᵀ·dy
 *
 * Threads that hold queries sum the gradients of queries; threads that hold keys sum those of keys and values. There
 * are no atomics, so results repeat bit for bit. A head's results may be scaled before they are written.
 *
 * @module
 */
import { type KernelSource, read, unroll, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { type OutputTile, outputTile, products, storeWeights, TILE, WORKGROUP_AREAS } from "./tiles.ts";
import { type AttentionLoop, attentionLoop } from "./loop.ts";

export interface BackwardAttention {
  readonly headDim: number;
  readonly plan: boolean;
  /**
   * What it computes: gradients of queries (outer rows are queries, inner rows keys), or of keys and values (the
   * reverse).
   */
  readonly of: "q" | "kv";
}

const INPUTS = {
  ...{ q: read("vec4f"), k: read("vec4f"), v: read("vec4f"), dy: read("vec4f") },
  /** [batch, queries, heads] */
  lse: read("f32"),
  /** [batch, queries, heads]: Σ dy∘y over a head's channels */
  dot_y: read("f32"),
  /** [batch, heads]: the factors for each head's gradients */
  head_scale: read("f32"),
};

const OUTPUTS = { q: { dq: write("vec4f") }, kv: { dk: write("vec4f"), dv: write("vec4f") } };

/** The parts of a kernel that all have, around its loop over inner rows. */
function kernelOf(kind: "plain" | "tiled", { headDim, plan, of }: BackwardAttention, loop: AttentionLoop) {
  return {
    name: `attention_backward_${of}_${kind}_${headDim}${plan ? "_plan" : ""}`,
    buffers: { ...INPUTS, ...loop.buffers, ...OUTPUTS[of] },
    params: { ...loop.params, has_head_scale: "u32" },
  } as const;
}

const FACTOR = `  var factor = 1.0;
  if (p.has_head_scale != 0u) { factor = head_scale[wid.z * p.heads + h]; }`;

/** The number of outer rows that a thread of {@link attentionBackwardPlain} holds. It takes inner rows one by one. */
export const PLAIN_BACKWARD_ROWS = (headDim: number): number => headDim <= 32 ? 2 : 1;

/** Makes the kernel for software adapters: a thread holds a few rows. */
export const attentionBackwardPlain = memo((variant: BackwardAttention): KernelSource => {
  const d4 = variant.headDim / 4, rows = PLAIN_BACKWARD_ROWS(variant.headDim);
  const loop = attentionLoop({ plan: variant.plan, rows });
  const channels = (line: (c: number) => string) => unroll(d4, line);
  const held = (line: (i: number) => string) => unroll(rows, line);
  const stages = (variant.of === "q" ? plainQueries : plainKeys)(channels, held);
  return {
    ...kernelOf("plain", variant, loop),
    workgroupSize: [8, 1, 1],
    body: `${loop.begin("gid.x")}
${FACTOR}
${held((i) => `  let token${i} = ${loop.outer(`first + ${i}u`)}; let here${i} = token${i} * p.dim4 + head;`)}
${held(stages.load)}
${
      loop.steps(
        1,
        `    let other = ${loop.inner("at")}; let there = other * p.dim4 + head;
${held((i) => `    var s${i} = 0.0; var t${i} = 0.0;`)}
${stages.add}`,
      )
    }
${
      held((i) =>
        `  if (first + ${i}u <= last) {
${channels((c) => stages.store(i, c))}
  }`
      )
    }`,
  };
});

/** WGSL of a plain kernel: loads a row, adds what one inner row contributes to all rows, and stores a row's channels. */
interface PlainStages {
  load(i: number): string;
  readonly add: string;
  store(i: number, c: number): string;
}

type Repeat = (line: (i: number) => string) => string;

/** Gradients of queries: `s` is the score and becomes dS, `t` is dP. */
function plainQueries(channels: Repeat, held: Repeat): PlainStages {
  const load = (i: number, c: number) =>
    `  let q${i}_${c} = q[here${i} + ${c}u] * p.scale; let g${i}_${c} = dy[here${i} + ${c}u]; var a${i}_${c} = vec4f();`;
  const multiply = (c: number) =>
    `    { let k = k[there + ${c}u]; let v = v[there + ${c}u]; ${
      held((i) => `s${i} += dot(q${i}_${c}, k); t${i} += dot(g${i}_${c}, v);`)
    } }`;
  return {
    load: (i) =>
      `  let top${i} = lse[token${i} * p.heads + h]; let d${i} = dot_y[token${i} * p.heads + h];
${channels((c) => load(i, c))}`,
    add: `${channels(multiply)}
${held((i) => `    s${i} = exp(s${i} - top${i}) * (t${i} - d${i});`)}
${channels((c) => `    { let k = k[there + ${c}u]; ${held((i) => `a${i}_${c} += s${i} * k;`)} }`)}`,
    store: (i, c) => `    dq[here${i} + ${c}u] += a${i}_${c} * (p.scale * factor);`,
  };
}

/** Gradients of keys and values: `s` is the score and becomes P, `t` is dP and becomes dS. */
function plainKeys(channels: Repeat, held: Repeat): PlainStages {
  const withQuery = (c: number, line: (i: number) => string) =>
    `    { let q = q[there + ${c}u]; let g = dy[there + ${c}u]; ${held(line)} }`;
  return {
    load: (i) =>
      channels((c) =>
        `  let k${i}_${c} = k[here${i} + ${c}u] * p.scale; let v${i}_${c} = v[here${i} + ${c}u];
  var a${i}_${c} = vec4f(); var b${i}_${c} = vec4f();`
      ),
    add: `${channels((c) => withQuery(c, (i) => `s${i} += dot(k${i}_${c}, q); t${i} += dot(v${i}_${c}, g);`))}
    { let top = lse[other * p.heads + h]; let d = dot_y[other * p.heads + h];
${held((i) => `      s${i} = exp(s${i} - top); t${i} = s${i} * (t${i} - d);`)} }
${channels((c) => withQuery(c, (i) => `a${i}_${c} += t${i} * q; b${i}_${c} += s${i} * g;`))}`,
    store: (i, c) =>
      `    dk[here${i} + ${c}u] += a${i}_${c} * (p.scale * factor);
    dv[here${i} + ${c}u] += b${i}_${c} * factor;`,
  };
}

/** Makes the kernel for GPUs. */
export const attentionBackwardTiled = memo((variant: BackwardAttention): KernelSource => {
  const loop = attentionLoop({ plan: variant.plan, rows: TILE }), out = outputTile(variant.headDim);
  const stages = (variant.of === "q" ? tiledQueries : tiledKeys)(variant.headDim, loop, out);
  const store = ([name, to, factor]: readonly [name: string, to: string, factor: string]) =>
    out.each(
      name,
      (sum, row, col) =>
        `  if (first + ${row} <= last) { ${to}[${
          loop.outer(`first + ${row}`)
        } * p.dim4 + head + ${col}] += ${sum} * ${factor}; }`,
    );
  return {
    ...kernelOf("tiled", variant, loop),
    workgroupSize: [16, 16, 1],
    declarations: WORKGROUP_AREAS,
    body: `${loop.begin("wid.x")}
${FACTOR}
${out.place}
${stages.sums.map(([name]) => out.sums(name)).join("\n")}
${stages.load}
${loop.steps(TILE, stages.add)}
${stages.sums.map(store).join("\n")}`,
  };
});

/** WGSL of a tiled kernel: its sums, what is loaded before the loop, and what one tile of inner rows adds. */
interface TiledStages {
  /** The names of the sums, where they are added, and with which factor. */
  readonly sums: readonly (readonly [name: string, to: string, factor: string])[];
  readonly load: string;
  readonly add: string;
}

/** The rows of a tensor that take part in a product. */
const rowsOf = (loop: AttentionLoop) => ({
  outer: (from: string, scale?: string) => ({
    from,
    token: (row: string) => loop.outer(`first + ${row}`),
    ...scale !== undefined && { scale },
  }),
  inner: (from: string) => ({ from, token: (row: string) => loop.inner(`at + ${row}`) }),
});

const FOUR = [0, 1, 2, 3];
/** Four scores of outer row lid.y + 16i, see {@link products}. */
const four = (name: string, i: number) => `vec4f(${FOUR.map((j) => `${name}${4 * i + j}`).join(", ")})`;
/** Rows past the end have weight zero. */
const INSIDE = `let inside = vec4<bool>(${FOUR.map((j) => `at + lid.x * 4u + ${j}u < end`).join(", ")});`;

/** Gradients of queries: `s` are scores, `t` is dP. */
function tiledQueries(headDim: number, loop: AttentionLoop, out: OutputTile): TiledStages {
  const { outer, inner } = rowsOf(loop);
  return {
    sums: [["o", "dq", "(p.scale * factor)"]],
    load: unroll(4, (i) =>
      `  let token${i} = ${loop.outer(`first + lid.y + ${16 * i}u`)} * p.heads + h;
  let top${i} = lse[token${i}]; let d${i} = dot_y[token${i}];`),
    add: `${products("s", outer("q", "p.scale"), inner("k"), headDim, "vec4f")}
${products("t", outer("dy"), inner("v"), headDim, "vec4f")}
    ${INSIDE}
${storeWeights((i) => `select(vec4f(), exp(${four("s", i)} - top${i}) * (${four("t", i)} - d${i}), inside)`)}
${out.accumulate("o", inner("k"))}`,
  };
}

/** Gradients of keys (`a`) and values (`b`): `s` are scores, `e` is P, `t` is dP. */
function tiledKeys(headDim: number, loop: AttentionLoop, out: OutputTile): TiledStages {
  const { outer, inner } = rowsOf(loop);
  return {
    sums: [["a", "dk", "(p.scale * factor)"], ["b", "dv", "factor"]],
    load: "",
    add: `${products("s", outer("k", "p.scale"), inner("q"), headDim, "vec4f")}
    ${INSIDE}
    var top = vec4f(); var d = vec4f();
${
      unroll(4, (j) =>
        `    { let i = ${
          loop.inner(`at + lid.x * 4u + ${j}u`)
        } * p.heads + h; top[${j}] = lse[i]; d[${j}] = dot_y[i]; }`)
    }
${unroll(4, (i) => `    let e${i} = select(vec4f(), exp(${four("s", i)} - top), inside);`)}
${storeWeights((i) => `e${i}`)}
${out.accumulate("b", inner("dy"))}
${products("t", outer("v"), inner("dy"), headDim, "vec4f")}
${storeWeights((i) => `e${i} * (${four("t", i)} - d)`)}
${out.accumulate("a", inner("q"))}`,
  };
}
