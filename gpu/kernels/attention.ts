/**
 * Attention with a running softmax: scores never leave the chip, so memory stays linear in the number of tokens.
 *
 * @module
 */
import { type KernelSource, read, unroll, write } from "../kernel.ts";
import { memo } from "./memo.ts";

const BUFFERS = {
  q: read("vec4f"),
  k: read("vec4f"),
  v: read("vec4f"),
  bias: read("f32"),
  key_lengths: read("u32"),
  y: write("vec4f"),
};

const PARAMS = {
  queries: "u32",
  keys: "u32",
  /** heads · head dim / 4: vec4s from one token to the next */
  dim4: "u32",
  scale: "f32",
  has_lengths: "u32",
} as const;

/** Less than any score, yet finite: exp of a difference of two of them is 1, not NaN. */
const MASKED = "-1e30";

/** Queries of one thread of {@link attentionPlain}: as many as keep its registers' worth of state about the same. */
export const PLAIN_ROWS = (headDim: number): number => Math.max(1, Math.min(4, Math.floor(128 / headDim)));
/** Keys it takes in one step. */
const PLAIN_KEYS = 4;

/** For software adapters: each thread holds a few whole queries and their sums and walks all keys. */
export const attentionPlain = memo(({ headDim, bias }: { headDim: number; bias: boolean }): KernelSource => {
  const d4 = headDim / 4, rows = PLAIN_ROWS(headDim);
  const each = (line: (i: number) => string) => unroll(rows, line);
  return {
    name: `attention_plain_${headDim}${bias ? "_bias" : ""}`,
    buffers: BUFFERS,
    params: PARAMS,
    workgroupSize: [8, 1, 1],
    body: `  let q0 = gid.x * ${rows}u;
  if (q0 >= p.queries) { return; }
  let head = gid.y * ${d4}u;
  let keys = select(p.keys, key_lengths[gid.z], p.has_lengths != 0u);
${
      each((i) =>
        `  let at${i} = (gid.z * p.queries + min(q0 + ${i}u, p.queries - 1u)) * p.dim4 + head;
  var m${i} = ${MASKED}; var l${i} = 0.0;
${bias ? `  let bias${i} = (gid.y * p.queries + min(q0 + ${i}u, p.queries - 1u)) * p.keys;` : ""}
${unroll(d4, (c) => `  let q${i}_${c} = q[at${i} + ${c}u] * p.scale; var a${i}_${c} = vec4f();`)}`
      )
    }
  for (var key = 0u; key < keys; key += ${PLAIN_KEYS}u) {
${
      unroll(PLAIN_KEYS, (j) =>
        `    let k${j} = (gid.z * p.keys + min(key + ${j}u, keys - 1u)) * p.dim4 + head;
${each((i) => `    var s${i}_${j} = 0.0;`)}
${unroll(d4, (c) => `    { let t = k[k${j} + ${c}u]; ${each((i) => `s${i}_${j} += dot(q${i}_${c}, t);`)} }`)}
${bias ? each((i) => `    s${i}_${j} += bias[bias${i} + min(key + ${j}u, keys - 1u)];`) : ""}
${
          j > 0
            ? each((i) => `    s${i}_${j} = select(${MASKED}, s${i}_${j}, key + ${j}u < keys);`)
            : ""
        }`)
    }
${
      each((i) =>
        `    { let top = max(m${i}, max(max(s${i}_0, s${i}_1), max(s${i}_2, s${i}_3)));
      let fade = exp(m${i} - top); m${i} = top;
${unroll(PLAIN_KEYS, (j) => `      s${i}_${j} = exp(s${i}_${j} - top);`)}
      l${i} = l${i} * fade + (s${i}_0 + s${i}_1) + (s${i}_2 + s${i}_3);
${unroll(d4, (c) => `      a${i}_${c} *= fade;`)} }`
      )
    }
${
      unroll(PLAIN_KEYS, (j) =>
        unroll(d4, (c) => `    { let t = v[k${j} + ${c}u]; ${each((i) => `a${i}_${c} += s${i}_${j} * t;`)} }`))
    }
  }
${
      each((i) =>
        `  if (q0 + ${i}u < p.queries) {
${unroll(d4, (c) => `    y[at${i} + ${c}u] = a${i}_${c} / l${i};`)}
  }`
      )
    }`,
  };
});

/** Queries and keys of one tile of {@link attentionTiled}. */
export const TILE = 64;

/**
 * For GPUs: a workgroup of 16×16 threads holds a tile of 64 queries and walks the tiles of 64 keys. A thread has 4×4 of
 * a tile's scores, and of the output 4 (or, for small heads, fewer) rows by every 16th vec4. q, k, v pass through one
 * staging area of workgroup memory; with the probabilities it comes to 32 KiB in f32, half in f16.
 */
export const attentionTiled = memo(
  ({ headDim, bias, f16 }: { headDim: number; bias: boolean; f16: boolean }): KernelSource => {
    const d4 = headDim / 4;
    const chunk = Math.min(8, d4); // vec4s along the head dimension staged at once for q·kᵀ
    const across = Math.min(16, d4); // threads side by side on one output row
    const cols = d4 / across; // vec4s of an output row in one thread
    const rows = 4 * across / 16; // output rows of one thread
    const vKeys = Math.min(TILE, 512 * 2 / d4); // keys of v staged at once
    const vec = f16 ? "vec4h" : "vec4f";
    // With f32 the row statistics lie in the staging area while it is free, to stay within 32 KiB.
    const stats = f16 ? "stats" : "stage";
    const times = f16 ? (a: string, b: string) => `f32(dot(${a}, ${b}))` : (a: string, b: string) => `dot(${a}, ${b})`;
    return {
      name: `attention_tiled_${headDim}${bias ? "_bias" : ""}${f16 ? "_f16" : ""}`,
      f16,
      buffers: BUFFERS,
      params: PARAMS,
      workgroupSize: [16, 16, 1],
      declarations: `
var<workgroup> stage: array<${vec}, 1024>;
var<workgroup> probs: array<${vec}, 1024>;
${f16 ? "var<workgroup> stats: array<vec4f, 1024>;" : ""}`,
      body: `  let q0 = wid.x * ${TILE}u;
  let head = wid.y * ${d4}u;
  let keys = select(p.keys, key_lengths[wid.z], p.has_lengths != 0u);
  let out_col = lid.x % ${across}u;
  let out_row = lid.y + 16u * ${rows}u * (lid.x / ${across}u);
${unroll(rows * cols, (i) => `  var o${i} = vec4f();`)}
${unroll(4, (i) => `  var m${i} = ${MASKED}; var l${i} = 0.0;`)}
  for (var k0 = 0u; k0 < keys; k0 += ${TILE}u) {
${unroll(16, (i) => `    var s${i} = 0.0;`)}
    for (var c0 = 0u; c0 < ${d4}u; c0 += ${chunk}u) {
${
        unroll(TILE * chunk / 256, (n) =>
          `      {
        let at = li + ${256 * n}u;
        let c = at % ${chunk}u;
        let row = at / ${chunk}u;
        stage[c * ${TILE}u + row] = ${vec}(q[(wid.z * p.queries + min(q0 + row, p.queries - 1u)) * p.dim4 + head + c0 + c] * p.scale);
        // Key 4a+b goes to slot 16b+a, so that threads that take four keys in a row read neighbours.
        let slot = (row % 4u) * 16u + row / 4u;
        stage[512u + c * ${TILE}u + slot] = ${vec}(k[(wid.z * p.keys + min(k0 + row, keys - 1u)) * p.dim4 + head + c0 + c]);
      }`)
      }
      workgroupBarrier();
      for (var c = 0u; c < ${chunk * TILE}u; c += ${TILE}u) {
${unroll(4, (i) => `        let a${i} = stage[c + ${16 * i}u + lid.y];`)}
${
        unroll(4, (j) =>
          `        { let b = stage[${512 + 16 * j}u + c + lid.x]; ${
            unroll(4, (i) =>
              `s${4 * i + j} += ${times(`a${i}`, "b")};`)
          } }`)
      }
      }
      workgroupBarrier();
    }
${
        unroll(4, (j) =>
          `    {
      let key = k0 + lid.x * 4u + ${j}u;
${
            unroll(4, (i) =>
              bias
                ? `      s${4 * i + j} += bias[(wid.y * p.queries + min(q0 + lid.y + ${
                  16 * i
                }u, p.queries - 1u)) * p.keys + min(key, keys - 1u)];`
                : "")
          }
      if (key >= keys) { ${unroll(4, (i) => `s${4 * i + j} = ${MASKED};`)} }
    }`)
      }
${
        unroll(4, (i) =>
          `    ${stats}[(lid.y + ${16 * i}u) * 16u + lid.x].x = max(max(s${4 * i}, s${4 * i + 1}), max(s${
            4 * i + 2
          }, s${4 * i + 3}));`)
      }
    workgroupBarrier();
    if (li < ${TILE}u) {
      var top = ${stats}[li * 16u].x;
      for (var i = 1u; i < 16u; i++) { top = max(top, ${stats}[li * 16u + i].x); }
      ${stats}[li * 16u].y = top;
    }
    workgroupBarrier();
${
        unroll(4, (i) =>
          `    {
      let top = max(m${i}, ${stats}[(lid.y + ${16 * i}u) * 16u].y);
      let fade = exp(m${i} - top);
      m${i} = top;
      let e = exp(vec4f(s${4 * i}, s${4 * i + 1}, s${4 * i + 2}, s${4 * i + 3}) - top);
      l${i} = l${i} * fade + dot(e, vec4f(1.0));
      probs[(lid.y + ${16 * i}u) * 16u + lid.x] = ${vec}(e);
      if (lid.x == 0u) { ${stats}[(lid.y + ${16 * i}u) * 16u].z = fade; }
    }`)
      }
    workgroupBarrier();
${
        unroll(rows, (i) =>
          `    { let fade = ${stats}[(out_row + ${16 * i}u) * 16u].z; ${
            unroll(cols, (j) =>
              `o${i * cols + j} *= fade;`)
          } }`)
      }
    workgroupBarrier();
    for (var v0 = 0u; v0 < ${TILE}u; v0 += ${vKeys}u) {
${
        unroll(vKeys * d4 / 256, (n) =>
          `      {
        let at = li + ${256 * n}u;
        stage[at] = ${vec}(v[(wid.z * p.keys + min(k0 + v0 + at / ${d4}u, keys - 1u)) * p.dim4 + head + at % ${d4}u]);
      }`)
      }
      workgroupBarrier();
      for (var g = 0u; g < ${vKeys / 4}u; g++) {
${unroll(rows, (i) => `        let w${i} = probs[(out_row + ${16 * i}u) * 16u + v0 / 4u + g];`)}
${
        unroll(cols, (j) =>
          `        {
${unroll(4, (k) => `          let t${k} = stage[(g * 4u + ${k}u) * ${d4}u + out_col + ${16 * j}u];`)}
${
            unroll(rows, (i) => {
              const sum = `w${i}.x * t0 + w${i}.y * t1 + w${i}.z * t2 + w${i}.w * t3`;
              return `          o${i * cols + j} += ${f16 ? `vec4f(${sum})` : sum};`;
            })
          }
        }`)
      }
      }
      workgroupBarrier();
    }
  }
${unroll(4, (i) => `  ${stats}[(lid.y + ${16 * i}u) * 16u + lid.x].x = l${i};`)}
  workgroupBarrier();
  if (li < ${TILE}u) {
    var total = ${stats}[li * 16u].x;
    for (var i = 1u; i < 16u; i++) { total += ${stats}[li * 16u + i].x; }
    ${stats}[li * 16u].y = total;
  }
  workgroupBarrier();
${
        unroll(rows, (i) =>
          `  {
    let row = out_row + ${16 * i}u;
    if (q0 + row < p.queries) {
      let at = (wid.z * p.queries + q0 + row) * p.dim4 + head + out_col;
      let total = ${stats}[row * 16u].y;
${unroll(cols, (j) => `      y[at + ${16 * j}u] = o${i * cols + j} / total;`)}
    }
  }`)
      }`,
    };
  },
);
