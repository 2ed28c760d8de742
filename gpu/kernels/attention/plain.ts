/**
 * Attention in its simplest form, for software adapters: a thread holds a few queries and reads keys and values straight
 * from memory. It never stores the scores. For each key, with a running softmax (Milakov and Gimelshein 2018):
 *
 *     top' = max(top, score)     fade = exp(top − top')     weight = exp(score − top')
 *     sum' = sum·fade + weight   output' = output·fade + weight·value
 *
 * and at the end, output / sum.
 *
 * To learn the kernels of this folder, start here. Then read `loop.ts` (which tokens a kernel loops over), `tiled.ts` (a
 * workgroup shares keys and values, step by step), `matrix.ts` with its stages (the same by matrix units), and
 * `backward.ts`.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { callName, callParams, forwardBuffers, type ForwardCall, queriesOf } from "./forward.ts";
import { attentionLoop, MASKED } from "./loop.ts";

/**
 * The number of queries of one thread of {@link attentionPlain}. With more, fewer loads of keys are needed. But the
 * loop is unrolled, so large heads take long to compile. Keys are taken one by one, because several at once are no
 * faster.
 */
export const PLAIN_ROWS = (headDim: number): number => headDim <= 32 ? 4 : 2;

/** Makes the kernel. Outer rows are queries, inner rows are keys. */
export const attentionPlain = memo((call: ForwardCall): KernelSource => {
  const { headDim, bias, plan, lse } = call;
  const d4 = headDim / 4, rows = PLAIN_ROWS(headDim), queries = queriesOf(call);
  const each = (line: (i: number) => string) => unroll(rows, line);
  const w = attentionLoop({ plan, rows });
  return {
    name: `attention_plain_${callName(call)}`,
    buffers: forwardBuffers(call, "vec4f", w.buffers),
    params: { ...w.params, ...callParams(call) },
    workgroupSize: [8, 1, 1],
    body: `${w.begin("gid.x")}
${
      each((i) =>
        `  let token${i} = ${w.outer(`first + ${i}u`)}; let at${i} = token${i} * p.dim4 + head;
  var m${i} = ${MASKED}; var l${i} = 0.0;
${bias ? `  let bias${i} = (h * p.outer + min(first + ${i}u, last)) * p.inner;` : ""}
${unroll(d4, (c) => `  let q${i}_${c} = ${queries}[at${i} + ${c}u] * p.scale; var a${i}_${c} = vec4f();`)}`
      )
    }
${
      w.steps(
        1,
        `    let at_k = ${w.inner("at")} * p.dim4 + head;
${each((i) => `    var s${i} = 0.0;`)}
${unroll(d4, (c) => `    { let t = k[at_k + ${c}u]; ${each((i) => `s${i} += dot(q${i}_${c}, t);`)} }`)}
${bias ? each((i) => `    s${i} += bias[bias${i} + at];`) : ""}
${call.repeats ? `    if (at + 1u == end) { ${each((i) => `s${i} += p.repeats * ${Math.LN2};`)} }` : ""}
${
          each((i) =>
            `    { let top = max(m${i}, s${i});
      let fade = exp(m${i} - top); m${i} = top;
      s${i} = exp(s${i} - top);
      l${i} = l${i} * fade + s${i};
${unroll(d4, (c) => `      a${i}_${c} *= fade;`)} }`
          )
        }
${unroll(d4, (c) => `    { let t = v[at_k + ${c}u]; ${each((i) => `a${i}_${c} += s${i} * t;`)} }`)}`,
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
