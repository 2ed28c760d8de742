import { type KernelSource, read, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { callName, forwardBuffers, type ForwardCall } from "./forward.ts";
import { lookaheadLoop } from "./lookahead.ts";
import { matrixLayout, matrixName, type MatrixTile } from "./matrix_layout.ts";
import {
  beginThread,
  declareAreas,
  declareWeights,
  epilogue,
  loadQueries,
  loadWeights,
  multiplyKeys,
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
 * Makes the attention kernel for matrix units: operands in f16, those of scores perhaps in i8, and f32 sums. A subgroup
 * owns some queries. It holds their operands and outputs in registers, and its own threads compute their softmax. WGSL
 * cannot access single elements of a matrix in registers, so scores pass through workgroup memory and come back as
 * weights. Outputs do so only at the end, and where they must be rescaled. `matrix_layout.ts` has the numbers that the
 * stages share.
 *
 * Keys and values must be in the layout that `pack.ts` writes, and queries, too, if they are i8. Outer rows are queries,
 * inner rows are keys.
 */
export const attentionMatrix = memo(({ tile, ...call }: ForwardCall & { readonly tile: MatrixTile }): KernelSource => {
  const layout = matrixLayout(tile, call.headDim), { rows, keys, threads, turns, apart, i8, unitType } = layout;
  const loop = lookaheadLoop({ plan: call.plan, rows, step: keys, threads, sorted: true });
  const k = staging(layout, "k"), v = staging(layout, "v"), scales = scaleStaging(layout);
  const barrier = "    workgroupBarrier();";
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
  }
    // There are barriers in it: from here on, the last weights can be loaded.
    let rescales = workgroupUniformLoad(&grown);
${loadWeights(layout, turns - 1)}
${rescale(layout)}
${weightedSum(layout)}`;
  const { buffers, ...pieces } = {
    buffers: forwardBuffers(call, "vec4u", loop.buffers),
    // Keys are read one step ahead, and values while scores are computed. Both wait in registers.
    first: `${k.declare}
${scales.declare}
${k.read(loop.inner)}
${scales.read(loop.inner)}
${k.stage}
${scales.stage}
${barrier}`,
    body: `${v.declare}
${v.read(loop.inner)}
${declareWeights(layout)}
${multiplyKeys(layout)}
${v.complete}
${storeScores(layout, 0)}
${apart ? v.stage : ""}`,
    rest: `${barrier}
${k.read(loop.next)}
${scales.read(loop.next)}
${apart ? "" : v.stage}
${weigh}
${k.complete}
${apart ? "" : barrier}
${k.stage}
${scales.stageNext}`,
  };
  return {
    name: `attention_matrix_${callName(call)}_${matrixName(tile).replaceAll(" ", "_")}`,
    matrix: true,
    buffers: {
      ...buffers,
      ...i8 && { q: read(unitType), k: read(unitType), q_scales: read("f32"), k_scales: read("f32") },
    },
    params: { ...loop.params, ...i8 && { query_rows: "u32" } },
    workgroupSize: [threads, 1, 1],
    declarations: `${loop.declarations}${declareAreas(layout)}`,
    body: `${loop.begin("wid.x")}
${beginThread(layout)}
${loadQueries(layout, loop)}
${startSums(layout)}
${loop.steps(pieces)}
${epilogue(layout, loop, call)}`,
  };
});
