import type { KernelSource } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { callName, forwardBuffers, type ForwardCall } from "./forward.ts";
import { lookaheadLoop } from "./lookahead.ts";
import { matrixLayout, matrixName, type MatrixTile } from "./matrix_layout.ts";
import {
  beginThread,
  declareAreas,
  epilogue,
  loadQueries,
  rescale,
  scores,
  softmax,
  staging,
  startSums,
  weightedSum,
} from "./matrix_stages.ts";

/**
 * Makes the attention kernel for matrix units: f16 operands, f32 sums. A subgroup owns some queries. It holds their
 * operands and outputs in registers, and its own threads compute their softmax. WGSL cannot access single elements of a
 * matrix in registers, so scores pass through workgroup memory and come back as weights. Outputs do so only at the end,
 * and where they must be rescaled. `matrix_layout.ts` has the numbers that the stages share.
 *
 * Keys and values must be in the layout that `pack.ts` writes. Outer rows are queries, inner rows are keys.
 */
export const attentionMatrix = memo(({ tile, ...call }: ForwardCall & { readonly tile: MatrixTile }): KernelSource => {
  const layout = matrixLayout(tile, call.headDim), { rows, keys, threads } = layout;
  const loop = lookaheadLoop({ plan: call.plan, rows, step: keys, threads, sorted: true });
  const k = staging(layout, "k"), v = staging(layout, "v");
  const stages = { softmax: softmax(layout, call), rescale: rescale(layout), weightedSum: weightedSum(layout) };
  const inTurn = {
    body: `${k.declare}
${k.read(loop.inner)}
${k.stage}
    workgroupBarrier();
${scores(layout)}
    workgroupBarrier();
${v.declare}
${v.read(loop.inner)}
${stages.softmax}
${v.stage}
${stages.rescale}
${stages.weightedSum}`,
  };
  const ahead = {
    first: `${k.declare}
${k.read(loop.inner)}
${k.stage}
  workgroupBarrier();`,
    body: `${v.declare}
${v.read(loop.inner)}
${scores(layout, v.complete)}`,
    // Rescaling starts with a barrier.
    rest: `    workgroupBarrier();
${k.read(loop.next)}
${stages.softmax}
${v.stage}
${stages.rescale}
${stages.weightedSum}
${k.complete}
    workgroupBarrier();
${k.stage}`,
  };
  return {
    name: `attention_matrix_${callName(call)}_${matrixName(tile)}`,
    matrix: true,
    buffers: forwardBuffers(call, "vec4u", loop.buffers),
    params: loop.params,
    workgroupSize: [threads, 1, 1],
    declarations: `${loop.declarations}${declareAreas(layout)}`,
    body: `${loop.begin("wid.x")}
${beginThread(layout)}
${loadQueries(layout, loop)}
${startSums(layout)}
${loop.steps(tile.ahead ? ahead : inTurn)}
${epilogue(layout, loop, call)}`,
  };
});
