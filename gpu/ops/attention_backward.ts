/**
 * Attention's backward pass by matrix units: packs the operands, and records the kernels.
 *
 * @module
 */
import type { BlockList } from "../attention_plan.ts";
import type { Gpu } from "../gpu.ts";
import {
  attentionBackwardMatrix,
  backwardFits,
  backwardRows,
  type BackwardTile,
  backwardTileBytes,
} from "../kernels/attention/backward_matrix.ts";
import { packBackward, packQueryFigures } from "../kernels/attention/backward_pack.ts";
import { chosenHeads } from "../kernels/chosen_heads.ts";
import { runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";
import { type AttentionPattern, launchAttention, orderStrides } from "./attention_launch.ts";

/** The tiles for the gradients of queries, and of keys and values, best first. `most` is the largest head dimension. */
const TILES: readonly (Omit<BackwardTile, "units"> & { readonly most?: number })[] = [
  // With larger heads, only one such workgroup fits a multiprocessor.
  { subgroups: [4, 2], rows: 32, step: 16, most: 32 },
  { subgroups: [2, 2], rows: 32, step: 16 },
  { subgroups: [4, 1], rows: 16, step: 16 },
];

/** The operands of the backward pass; see `attentionBackward`. */
export type BackwardOperands = Readonly<Record<"q" | "k" | "v" | "dy" | "lse" | "dotY", Tensor>>;

/** How both kinds of gradients are computed. */
export type BackwardTiles = Readonly<Record<"q" | "kv", BackwardTile>>;

/** The tiles of a device for a head dimension; undefined where its matrix units cannot compute these gradients. */
export function backwardTiles(gpu: Gpu, headDim: number): BackwardTiles | undefined {
  const { matrixUnits: units, device: { limits: { maxComputeWorkgroupStorageSize: room } } } = gpu;
  if (!units || !gpu.f16 || headDim % 8 !== 0) return undefined;
  const tile = TILES.filter(({ most = headDim }) => headDim <= most).map((tile) => ({ ...tile, units })).find((tile) =>
    tile.subgroups[0] * tile.subgroups[1] * units.subgroup <= gpu.maxThreads && backwardFits(tile, headDim) &&
    backwardTileBytes(tile, headDim) <= room
  );
  return tile && { q: tile, kv: tile };
}

/**
 * Adds the gradients of q, k, v to `into`, as `attentionBackward` does. What f16 cannot hold of `dy` is clamped, so it
 * must be scaled so that its numbers are near one.
 *
 * @param tiles as {@link backwardTiles} gives them
 * @param blockRows the largest number of slots of a plan's block
 */
export function backwardByMatrixUnits(
  gpu: Gpu,
  operands: BackwardOperands,
  { dq, dk, dv }: Readonly<Record<"dq" | "dk" | "dv", Tensor | undefined>>,
  pattern: AttentionPattern,
  tiles: BackwardTiles,
  blockRows: number,
  headScale: Tensor | undefined,
): void {
  const { q, k } = operands, { heads, plan } = pattern, headDim = q.dim(-1) / heads;
  const scale = pattern.scale ?? 1 / Math.sqrt(headDim);
  const { chosen, head_ids, params } = chosenHeads(gpu, pattern), [batch] = q.shape as [number];
  const rowsOf = (x: Tensor) => plan?.order.dim(1) ?? x.dim(1);
  const shared = (x: Tensor) => ({
    buffers: { head_ids, ...plan && { order: plan.order } },
    params: { ...params, tokens: x.dim(1), rows: rowsOf(x), ...orderStrides(plan) },
  });
  /** Blocks may read rows past the last, whose contents do not matter. */
  const more = Math.max(backwardRows(tiles.q), backwardRows(tiles.kv));
  const packed = (x: Tensor, factor = 1) => {
    const { buffers, params } = shared(x), rows = batch * chosen * rowsOf(x);
    const y = gpu.tensor([rows + more, headDim], "f16");
    const kernel = packBackward({ headDim, plan: plan !== undefined });
    return runPerElement(gpu, kernel, { ...buffers, x, y }, { ...params, factor }, rows * headDim / 8);
  };
  gpu.untaped(() =>
    gpu.scope(() => {
      const queries = packed(q, scale * Math.LOG2E), keys = packed(k), values = packed(operands.v);
      const gradients = packed(operands.dy);
      const figures = gpu.tensor([batch * chosen * rowsOf(q), 2]);
      const { buffers, params } = shared(q);
      runPerElement(
        gpu,
        packQueryFigures(plan !== undefined),
        { ...buffers, lse: operands.lse, dot_y: operands.dotY, y: figures },
        params,
        batch * chosen * rowsOf(q),
      );
      const launch = (
        of: "q" | "kv",
        list: BlockList | undefined,
        [outer, inner]: readonly [Tensor, Tensor],
        buffers: Readonly<Record<string, Tensor>>,
      ) =>
        launchAttention(gpu, {
          kernel: attentionBackwardMatrix({ headDim, plan: plan !== undefined, of, tile: tiles[of] }),
          ...{ pattern, list, rows: backwardRows(tiles[of]), blockRows, outer, inner: rowsOf(inner) },
          buffers: { ...buffers, figures, head_scale: headScale ?? gpu.placeholder, key_lengths: gpu.placeholder },
          params: { has_head_scale: headScale ? 1 : 0, has_lengths: 0, outer_rows: rowsOf(outer) },
        });
      if (dq) launch("q", plan?.queries, [q, k], { a0: queries, a1: gradients, b0: keys, b1: values, dq });
      if (dk && dv) launch("kv", plan?.keys, [k, q], { a0: keys, a1: values, b0: queries, b1: gradients, dk, dv });
    })
  );
}
