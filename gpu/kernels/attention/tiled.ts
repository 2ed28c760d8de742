/**
 * Attention for GPUs.
 *
 * @module
 */
import { type KernelSource, read, unroll, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { OutputTile, products, type Staged, storeWeights, TILE, workgroupAreas } from "./tiles.ts";
import { MASKED, walk } from "./walk.ts";

/** A variant of {@link attentionTiled}. */
export interface TiledAttention {
  readonly headDim: number;
  readonly bias: boolean;
  readonly plan: boolean;
  /** Writes the log of each query's sum of exponentials too. */
  readonly lse: boolean;
  /** Operands are staged in f16; sums are f32. */
  readonly f16: boolean;
}

/** With a running softmax, so that scores never leave the chip. Outer rows are queries, inner rows keys. */
export const attentionTiled = memo(({ headDim, bias, plan, lse, f16 }: TiledAttention): KernelSource => {
  const type: Staged = f16 ? "vec4h" : "vec4f";
  const w = walk({ plan, rows: TILE, across: true });
  const out = new OutputTile(headDim);
  // With f32 the row statistics lie in the staging area while it is free, to stay within 32 KiB.
  const stats = f16 ? "stats" : "stage";
  const queries = { from: "q", token: (row: string) => w.outer(`first + ${row}`), scale: "p.scale" };
  const keys = (from: string) => ({ from, token: (row: string) => w.inner(`at + ${row}`) });
  return {
    name: `attention_tiled_${headDim}${bias ? "_bias" : ""}${plan ? "_plan" : ""}${lse ? "_lse" : ""}${
      f16 ? "_f16" : ""
    }`,
    f16,
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
    workgroupSize: [16, 16, 1],
    declarations: `${w.declarations}${workgroupAreas(type)}
${f16 ? "var<workgroup> stats: array<vec4f, 1024>;" : ""}`,
    body: `${w.begin("wid.x")}
${out.place}
${out.sums("o")}
${unroll(4, (i) => `  var m${i} = ${MASKED}; var l${i} = 0.0;`)}
${
      w.steps(
        TILE,
        `${products("s", queries, keys("k"), headDim, type)}
${
          unroll(4, (j) =>
            `    {
      let key = at + lid.x * 4u + ${j}u;
${
              unroll(4, (i) =>
                bias
                  ? `      s${4 * i + j} += bias[(h * p.outer + min(first + lid.y + ${
                    16 * i
                  }u, last)) * p.inner + min(key, end - 1u)];`
                  : "")
            }
      if (key >= end) { ${unroll(4, (i) => `s${4 * i + j} = ${MASKED};`)} }
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
            `    let top${i} = max(m${i}, ${stats}[(lid.y + ${16 * i}u) * 16u].y);
    let fade${i} = exp(m${i} - top${i});
    m${i} = top${i};
    let e${i} = exp(vec4f(s${4 * i}, s${4 * i + 1}, s${4 * i + 2}, s${4 * i + 3}) - top${i});
    l${i} = l${i} * fade${i} + dot(e${i}, vec4f(1.0));
    if (lid.x == 0u) { ${stats}[(lid.y + ${16 * i}u) * 16u].z = fade${i}; }`)
        }
${storeWeights(type, (i) => `e${i}`)}
    workgroupBarrier();
${out.each("o", (sum, row) => `    ${sum} *= ${stats}[${row} * 16u].z;`)}
    workgroupBarrier();
${out.accumulate("o", keys("v"), type)}`,
      )
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
      lse
        ? unroll(4, (i) =>
          `  if (lid.x == 0u && first + lid.y + ${16 * i}u <= last) {
    lse[${w.outer(`first + lid.y + ${16 * i}u`)} * p.heads + h] = m${i} + log(${stats}[(lid.y + ${16 * i}u) * 16u].y);
  }`)
        : ""
    }
${
      out.each("o", (sum, row, col) =>
        `  if (first + ${row} <= last) { y[${
          w.outer(`first + ${row}`)
        } * p.dim4 + head + ${col}] = ${sum} / ${stats}[${row} * 16u].y; }`)
    }`,
  };
});
