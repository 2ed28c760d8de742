import { type KernelSource, read, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { callName, callParams, forwardBuffers, type ForwardCall } from "./forward.ts";
import { lookaheadLoop } from "./lookahead.ts";
import { matrixLayout, matrixName, type MatrixTile } from "./matrix_layout.ts";
import {
  beginThread,
  declareAreas,
  declareGrowth,
  declareWeights,
  epilogue,
  loadWeights,
  multiplyKeys,
  queries,
  readScales,
  rescale,
  scaleStaging,
  softmax,
  staging,
  startSums,
  storeScores,
  weightedSum,
} from "./matrix_stages.ts";

/**
 * Makes the attention kernel for matrix units: operands in f16, those of scores perhaps in i8, and f32 sums. A group of
 * subgroups owns some queries. It holds their operands and outputs in registers. WGSL cannot access single elements of a
 * matrix in registers, so scores pass through workgroup memory and come back as weights. Outputs do so only at the end,
 * and where they must be rescaled. `matrix_layout.ts` has the numbers that the stages share.
 *
 * Keys and values must be in the layout that `pack.ts` writes, and queries, too, if they are i8. Outer rows are queries,
 * inner rows are keys.
 */
export const attentionMatrix = memo(({ tile, ...call }: ForwardCall & { readonly tile: MatrixTile }): KernelSource => {
  const layout = matrixLayout(tile, call.headDim),
    { rows, keys, threads, turns, apart, delayed, i8, unitType } = layout;
  const loop = lookaheadLoop({ plan: call.plan, rows, step: keys, threads, sorted: true });
  const k = staging(layout, "k"), v = staging(layout, "v"), scales = scaleStaging(layout);
  const barrier = "    workgroupBarrier();", weighted = weightedSum(layout), declared = declareWeights(layout);
  const weigh = `${readScales(layout)}
${
    unroll(turns, (t) =>
      `${t > 0 ? `${barrier}\n${storeScores(layout, t)}\n${barrier}` : ""}
${softmax(layout, call, t)}
${
        t < turns - 1
          ? `${barrier}\n${loadWeights(layout, t)}`
          : ""
      }`)
  }`;
  const stageKeys = `${k.stage}\n${scales.stageNext}`;
  // There are barriers in it: then the last weights can be loaded.
  const join = `    let rescales = workgroupUniformLoad(&grown);\n${loadWeights(layout, turns - 1)}`;
  // Keys are read one step ahead. Values are read before scores are computed or, where weights are held, after that.
  const own = queries(layout, loop, call);
  const steps = {
    before: own.read,
    first: `${k.declare}
${scales.declare}
${k.read(loop.inner)}
${scales.read(loop.inner)}
${own.load}
${startSums(layout)}
${k.stage}
${scales.stage}
${delayed ? declared : ""}
${barrier}`,
    body: `${v.declare}
${delayed ? "" : declared}
${declareGrowth(layout)}
${delayed ? "" : v.read(loop.inner)}
${multiplyKeys(layout)}
${delayed ? v.read(loop.inner) : ""}
${storeScores(layout, 0)}`,
    rest: `${barrier}
${k.read(loop.next)}
${scales.read(loop.next)}
${
      delayed
        ? `${weighted}
${weigh}
${k.complete}
${stageKeys}
${v.complete}
${join}
${v.stage}
${rescale(layout)}`
        : `${weigh}
${v.complete}
${v.stage}
${join}
${rescale(layout)}
${weighted}
${k.complete}
${apart ? "" : barrier}
${stageKeys}`
    }`,
  };
  return {
    name: `attention_matrix_${callName(call)}_${matrixName(tile).replaceAll(" ", "_")}`,
    matrix: true,
    buffers: {
      ...forwardBuffers(call, "vec4u", loop.buffers),
      ...i8 && { q: read(unitType), k: read(unitType), q_scales: read("f32"), k_scales: read("f32") },
    },
    params: { ...loop.params, ...callParams(call), ...i8 && { query_rows: "u32" } },
    workgroupSize: [threads, 1, 1],
    declarations: `${loop.declarations}${declareAreas(layout, call)}`,
    body: `${loop.begin("wid.x")}
${beginThread(layout)}
${loop.steps(steps)}${delayed ? `\n${weighted}` : ""}
${epilogue(layout, loop, call)}`,
  };
});
