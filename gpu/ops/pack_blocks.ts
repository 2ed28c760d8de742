/**
 * Operands of a matrix product as matrix units read them fastest.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { packBlocks } from "../kernels/gemm/pack.ts";
import type { WeightDtype } from "../kernels/packed.ts";
import { matrixTileSize } from "../kernels/product/matrix.ts";
import type { ProductVariant } from "../kernels/product/variants.ts";
import type { Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./grid.ts";

/**
 * @param x [..., k]; k a multiple of 8
 * @returns f16, its blocks of `height` rows by `8 · depth` numbers one after the other
 */
function packed(gpu: Gpu, x: Tensor, height: number, depth: number): Tensor {
  const eights = x.dim(-1) / 8, rows = x.size / x.dim(-1);
  const blocks = Math.ceil(eights / depth) * Math.ceil(rows / height), count = blocks * height * depth;
  const y = gpu.tensor([blocks, height, 8 * depth], "f16");
  gpu.run(packBlocks({ dtype: x.dtype as WeightDtype, rows: height, depth, index: INDEX_1D }), {
    buffers: { x, y },
    params: { rows, eights, count },
    workgroups: groups1d(count),
  });
  return y;
}

/** Has `record` run y = x·wᵀ on operands as its variant wants them: as they are, or packed for the time being. */
export function withBlocks(
  gpu: Gpu,
  variant: ProductVariant | undefined,
  [x, w]: readonly [x: Tensor, w: Tensor],
  record: (x: Tensor, w: Tensor) => void,
): void {
  if (variant?.by !== "matrix units" || !variant.tile.packed) return record(x, w);
  const units = gpu.matrixUnits!, [rows, columns] = matrixTileSize(variant.tile, units);
  const depth = variant.tile.depth * units.k / 8;
  const [px, pw] = [packed(gpu, x, rows, depth), packed(gpu, w, columns, depth)];
  record(px, pw);
  gpu.release(px);
  gpu.release(pw);
}
