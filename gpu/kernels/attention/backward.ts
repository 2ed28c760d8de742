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
import { OutputTile, products, storeWeights, TILE, WORKGROUP_AREAS } from "./tiles.ts";
import { attentionLoop } from "./loop.ts";

/** A variant of a backward kernel. */
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
  q: read("vec4f"),
  k: read("vec4f"),
  v: read("vec4f"),
  dy: read("vec4f"),
  /** [batch, queries, heads] */
  lse: read("f32"),
  /** [batch, queries, heads]: Σ dy∘y over a head's channels */
  dot_y: read("f32"),
  /** [batch, heads]: the factors for each head's gradients */
  head_scale: read("f32"),
};

const outputs = (of: "q" | "kv") => of === "q" ? { dq: write("vec4f") } : { dk: write("vec4f"), dv: write("vec4f") };

const PARAMS = { has_head_scale: "u32" } as const;
const FACTOR = `  var factor = 1.0;
  if (p.has_head_scale != 0u) { factor = head_scale[wid.z * p.heads + h]; }`;

/** The number of outer rows that a thread of {@link attentionBackwardPlain} holds. It takes inner rows one by one. */
export const PLAIN_BACKWARD_ROWS = (headDim: number): number => headDim <= 32 ? 2 : 1;

/** Makes the kernel for software adapters: a thread holds a few rows. */
export const attentionBackwardPlain = memo(({ headDim, plan, of }: BackwardAttention): KernelSource => {
  const d4 = headDim / 4, rows = PLAIN_BACKWARD_ROWS(headDim);
  const w = attentionLoop({ plan, rows });
  const channels = (line: (c: number) => string) => unroll(d4, line);
  const held = (line: (i: number) => string) => unroll(rows, line);
  const begin = `${w.begin("gid.x")}
${FACTOR}
${held((i) => `  let token${i} = ${w.outer(`first + ${i}u`)}; let here${i} = token${i} * p.dim4 + head;`)}`;
  const inner = (body: string) =>
    w.steps(
      1,
      `    let other = ${w.inner("at")}; let there = other * p.dim4 + head;
${held((i) => `    var s${i} = 0.0; var t${i} = 0.0;`)}
${body}`,
    );
  return {
    name: `attention_backward_${of}_plain_${headDim}${plan ? "_plan" : ""}`,
    buffers: { ...INPUTS, ...w.buffers, ...outputs(of) },
    params: { ...w.params, ...PARAMS },
    workgroupSize: [8, 1, 1],
    body: of === "q"
      ? `${begin}
${
        held((i) =>
          `  let top${i} = lse[token${i} * p.heads + h]; let d${i} = dot_y[token${i} * p.heads + h];
${
            channels((c) =>
              `  let q${i}_${c} = q[here${i} + ${c}u] * p.scale; let g${i}_${c} = dy[here${i} + ${c}u]; var a${i}_${c} = vec4f();`
            )
          }`
        )
      }
${
        inner(`${
          channels((c) =>
            `    { let k = k[there + ${c}u]; let v = v[there + ${c}u]; ${
              held((i) => `s${i} += dot(q${i}_${c}, k); t${i} += dot(g${i}_${c}, v);`)
            } }`
          )
        }
${held((i) => `    s${i} = exp(s${i} - top${i}) * (t${i} - d${i});`)}
${channels((c) => `    { let k = k[there + ${c}u]; ${held((i) => `a${i}_${c} += s${i} * k;`)} }`)}`)
      }
${
        held((i) =>
          `  if (first + ${i}u <= last) {
${channels((c) => `    dq[here${i} + ${c}u] += a${i}_${c} * (p.scale * factor);`)}
  }`
        )
      }`
      : `${begin}
${
        held((i) =>
          channels((c) =>
            `  let k${i}_${c} = k[here${i} + ${c}u] * p.scale; let v${i}_${c} = v[here${i} + ${c}u];
  var a${i}_${c} = vec4f(); var b${i}_${c} = vec4f();`
          )
        )
      }
${
        inner(`${
          channels((c) =>
            `    { let q = q[there + ${c}u]; let g = dy[there + ${c}u]; ${
              held((i) => `s${i} += dot(k${i}_${c}, q); t${i} += dot(v${i}_${c}, g);`)
            } }`
          )
        }
    { let top = lse[other * p.heads + h]; let d = dot_y[other * p.heads + h];
${held((i) => `      s${i} = exp(s${i} - top); t${i} = s${i} * (t${i} - d);`)} }
${
          channels((c) =>
            `    { let q = q[there + ${c}u]; let g = dy[there + ${c}u]; ${
              held((i) => `a${i}_${c} += t${i} * q; b${i}_${c} += s${i} * g;`)
            } }`
          )
        }`)
      }
${
        held((i) =>
          `  if (first + ${i}u <= last) {
${
            channels((c) =>
              `    dk[here${i} + ${c}u] += a${i}_${c} * (p.scale * factor);
    dv[here${i} + ${c}u] += b${i}_${c} * factor;`
            )
          }
  }`
        )
      }`,
  };
});

/** Makes the kernel for GPUs. */
export const attentionBackwardTiled = memo(({ headDim, plan, of }: BackwardAttention): KernelSource => {
  const w = attentionLoop({ plan, rows: TILE });
  const out = new OutputTile(headDim);
  const outer = (from: string, scale?: string) => ({
    from,
    token: (row: string) => w.outer(`first + ${row}`),
    ...scale !== undefined && { scale },
  });
  const inner = (from: string) => ({ from, token: (row: string) => w.inner(`at + ${row}`) });
  const four = (name: string, i: number) => `vec4f(${[0, 1, 2, 3].map((j) => `${name}${4 * i + j}`).join(", ")})`;
  const store = (name: string, to: string, factor: string) =>
    out.each(
      name,
      (sum, row, col) =>
        `  if (first + ${row} <= last) { ${to}[${
          w.outer(`first + ${row}`)
        } * p.dim4 + head + ${col}] += ${sum} * ${factor}; }`,
    );
  // Rows past the end have weight zero.
  const inside = `let inside = vec4<bool>(${[0, 1, 2, 3].map((j) => `at + lid.x * 4u + ${j}u < end`).join(", ")});`;
  const begin = `${w.begin("wid.x")}
${FACTOR}
${out.place}`;
  return {
    name: `attention_backward_${of}_tiled_${headDim}${plan ? "_plan" : ""}`,
    buffers: { ...INPUTS, ...w.buffers, ...outputs(of) },
    params: { ...w.params, ...PARAMS },
    workgroupSize: [16, 16, 1],
    declarations: WORKGROUP_AREAS,
    body: of === "q"
      ? `${begin}
${out.sums("o")}
${
        unroll(4, (i) =>
          `  let token${i} = ${w.outer(`first + lid.y + ${16 * i}u`)} * p.heads + h;
  let top${i} = lse[token${i}]; let d${i} = dot_y[token${i}];`)
      }
${
        w.steps(
          TILE,
          `${products("s", outer("q", "p.scale"), inner("k"), headDim, "vec4f")}
${products("t", outer("dy"), inner("v"), headDim, "vec4f")}
    ${inside}
${storeWeights((i) => `select(vec4f(), exp(${four("s", i)} - top${i}) * (${four("t", i)} - d${i}), inside)`)}
${out.accumulate("o", inner("k"))}`,
        )
      }
${store("o", "dq", "(p.scale * factor)")}`
      : `${begin}
${out.sums("a")}
${out.sums("b")}
${
        w.steps(
          TILE,
          `${products("s", outer("k", "p.scale"), inner("q"), headDim, "vec4f")}
    ${inside}
    var top = vec4f(); var d = vec4f();
${
            unroll(4, (j) =>
              `    { let i = ${
                w.inner(`at + lid.x * 4u + ${j}u`)
              } * p.heads + h; top[${j}] = lse[i]; d[${j}] = dot_y[i]; }`)
          }
${unroll(4, (i) => `    let e${i} = select(vec4f(), exp(${four("s", i)} - top), inside);`)}
${storeWeights((i) => `e${i}`)}
${out.accumulate("b", inner("dy"))}
${products("t", outer("v"), inner("dy"), headDim, "vec4f")}
${storeWeights((i) => `e${i} * (${four("t", i)} - d)`)}
${out.accumulate("a", inner("q"))}`,
        )
      }
${store("a", "dk", "(p.scale * factor)")}
${store("b", "dv", "factor")}`,
  };
});
