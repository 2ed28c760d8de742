/**
 * Attention for software adapters: each thread holds a few whole rows and walks the others, straight from memory.
 *
 * @module
 */
import { type KernelSource, read, unroll, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { MASKED, walk } from "./walk.ts";

/** Queries of one thread of {@link attentionPlain}: as many as keep its registers' worth of state about the same. */
export const PLAIN_ROWS = (headDim: number): number => Math.max(1, Math.min(4, Math.floor(128 / headDim)));
/** Keys it takes in one step. */
const PLAIN_KEYS = 4;

/** A variant of {@link attentionPlain}. */
export interface PlainAttention {
  readonly headDim: number;
  readonly bias: boolean;
  readonly plan: boolean;
  /** Writes the log of each query's sum of exponentials too. */
  readonly lse: boolean;
}

/** Outer rows are queries, inner rows keys. */
export const attentionPlain = memo(({ headDim, bias, plan, lse }: PlainAttention): KernelSource => {
  const d4 = headDim / 4, rows = PLAIN_ROWS(headDim);
  const each = (line: (i: number) => string) => unroll(rows, line);
  const w = walk({ plan, rows });
  return {
    name: `attention_plain_${headDim}${bias ? "_bias" : ""}${plan ? "_plan" : ""}${lse ? "_lse" : ""}`,
    buffers: {
      q: read("vec4f"),
      k: read("vec4f"),
      v: read("vec4f"),
      ...w.buffers,
      ...bias && { bias: read("f32") },
      y: write("vec4f"),
      ...lse && { lse: write("f32") },
    },
    params: w.params,
    workgroupSize: [8, 1, 1],
    body: `${w.begin("gid.x")}
${
      each((i) =>
        `  let token${i} = ${w.outer(`first + ${i}u`)}; let at${i} = token${i} * p.dim4 + head;
  var m${i} = ${MASKED}; var l${i} = 0.0;
${bias ? `  let bias${i} = (h * p.outer + min(first + ${i}u, last)) * p.inner;` : ""}
${unroll(d4, (c) => `  let q${i}_${c} = q[at${i} + ${c}u] * p.scale; var a${i}_${c} = vec4f();`)}`
      )
    }
${
      w.steps(
        PLAIN_KEYS,
        `${
          unroll(PLAIN_KEYS, (j) =>
            `    let k${j} = ${w.inner(`at + ${j}u`)} * p.dim4 + head;
${each((i) => `    var s${i}_${j} = 0.0;`)}
${unroll(d4, (c) => `    { let t = k[k${j} + ${c}u]; ${each((i) => `s${i}_${j} += dot(q${i}_${c}, t);`)} }`)}
${bias ? each((i) => `    s${i}_${j} += bias[bias${i} + min(at + ${j}u, end - 1u)];`) : ""}
${
              j > 0
                ? each((i) => `    s${i}_${j} = select(${MASKED}, s${i}_${j}, at + ${j}u < end);`)
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
          unroll(
            PLAIN_KEYS,
            (j) =>
              unroll(d4, (c) => `    { let t = v[k${j} + ${c}u]; ${each((i) => `a${i}_${c} += s${i}_${j} * t;`)} }`),
          )
        }`,
      )
    }
${
      each((i) =>
        `  if (first + ${i}u <= last) {
${unroll(d4, (c) => `    y[at${i} + ${c}u] = a${i}_${c} / l${i};`)}
${lse ? `    lse[token${i} * p.heads + h] = m${i} + log(l${i});` : ""}
  }`
      )
    }`,
  };
});
