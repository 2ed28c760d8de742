import type { Gpu } from "../gpu.ts";
import { packBackward } from "../kernels/attention/backward_pack.ts";
import { heatPlain, heatTiled } from "../kernels/attention/heat.ts";
import {
  heatBytes,
  heatFits,
  heatMatrix,
  heatRows,
  heatSums,
  type HeatTile,
} from "../kernels/attention/heat_matrix.ts";
import { runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";
import type { TileLayout } from "../tile_layout.ts";
import { headDimOf, orderStrides } from "./attention_launch.ts";
import { chosenHeads, type Heads } from "../kernels/chosen_heads.ts";

/** Tiles of work for matrix units, best first. */
const TILES: readonly Omit<HeatTile, "units">[] = [{ subgroups: 4, rows: 16, step: 32 }];

/** The one that a device uses; undefined where matrix units cannot compute heat. */
function heatTile(gpu: Gpu, headDim: number): HeatTile | undefined {
  const { matrixUnits: units, device: { limits: { maxComputeWorkgroupStorageSize: room } } } = gpu;
  if (!units || !gpu.f16) return undefined;
  return TILES.map((tile) => ({ ...tile, units })).find((tile) =>
    tile.subgroups * units.subgroup <= gpu.maxThreads && heatFits(tile, headDim) && heatBytes(tile, headDim) <= room
  );
}

/** Records the heat by matrix units. */
function byMatrixUnits(
  gpu: Gpu,
  q: Tensor,
  k: Tensor,
  lse: Tensor,
  { layout: { order, tiles, capacity }, ...of }: Heads & { readonly layout: TileLayout },
  tile: HeatTile,
  { max, sum }: { readonly max: Tensor; readonly sum: Tensor },
): void {
  const { chosen, head_ids, params } = chosenHeads(gpu, of), [batch, tokens, dim] = q.shape as [number, number, number];
  const headDim = dim / of.heads, count = tiles.dim(1), slots = order.dim(1), rows = heatRows(tile);
  const all = batch * chosen, parts = Math.ceil(capacity / rows), kernel = packBackward({ headDim, plan: true });
  const packed = (x: Tensor, factor: number) => {
    // A tile's last queries are loaded with rows behind them, whose contents do not matter.
    const y = gpu.tensor([all * slots + rows, headDim], "f16");
    const sizes = { ...params, tokens, rows: slots, ...orderStrides(undefined), factor };
    return runPerElement(gpu, kernel, { x, head_ids, order, y }, sizes, all * slots * headDim / 8);
  };
  const x = gpu.tensor([all * count * count, parts, tile.subgroups, 2]);
  gpu.run(heatMatrix({ headDim, tile }), {
    buffers: { q: packed(q, Math.LOG2E / Math.sqrt(headDim)), k: packed(k, 1), lse, order, tiles, head_ids, y: x },
    params: { ...params, tokens, slots, tiles: count, parts },
    workgroups: [parts, count, all],
  });
  const { subgroups } = tile, pairs = all * count * count;
  runPerElement(gpu, heatSums({ subgroups, rows: tile.rows }), { x, tiles, head_ids, y: max, total: sum }, {
    ...{ ...params, tiles: count, parts },
  }, pairs);
}

/**
 * The heat of full attention: how much the queries of one tile attend to the keys of another. It takes one pass over
 * q·kᵀ, and stores one number for each pair of tiles, never one for each pair of tokens.
 *
 * @param q [batch, tokens, heads · head dim], f32; head dim a multiple of 4, on GPUs 16, 32, 64 or 128
 * @param k likewise
 * @param lse [batch, tokens, heads], f32: as `attention` returns it for the same q and k
 * @param options `layout`: of one kind of heads
 * @returns [batch · heads, query tiles, key tiles], f32: the largest attention probability between a token of one tile
 * and a token of the other, and the sum of these probabilities. A row's sums add up to the number of its tile's tokens
 */
export function tileHeat(
  gpu: Gpu,
  q: Tensor,
  k: Tensor,
  lse: Tensor,
  options: Heads & { readonly layout: TileLayout },
): { readonly max: Tensor; readonly sum: Tensor } {
  const { heads, layout: { order, tiles } } = options, { chosen, head_ids, params } = chosenHeads(gpu, options);
  const [batch, tokens, dim] = q.shape as [number, number, number];
  const headDim = headDimOf(gpu, q, heads), count = tiles.dim(1);
  const max = gpu.tensor([batch * heads, count, count]), sum = gpu.tensor(max.shape);
  const tile = heatTile(gpu, headDim);
  if (tile) {
    gpu.untaped(() => gpu.scope(() => byMatrixUnits(gpu, q, k, lse, options, tile, { max, sum })));
    return { max, sum };
  }
  gpu.run(gpu.kernels.plain ? heatPlain(headDim) : heatTiled({ headDim, f16: gpu.f16 }), {
    buffers: { q, k, lse, order, tiles, head_ids, maximum: max, total: sum },
    params: { ...params, tokens, dim4: dim / 4, tiles: count, scale: 1 / Math.sqrt(headDim) },
    workgroups: [gpu.kernels.plain ? Math.ceil(count / 8) : count, count, batch * chosen],
  });
  return { max, sum };
}
