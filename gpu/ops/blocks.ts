/**
 * Operands of matrix products in the layout that matrix units read fastest.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { blockCount, type Cut, packBlocks } from "../kernels/gemm/pack.ts";
import { matrixTileSize } from "../kernels/product/matrix.ts";
import type { ProductVariant } from "../kernels/product/variants.ts";
import { sizeOf, type Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./grid.ts";

/** An operand in blocks, f16 (see `kernels/gemm/pack.ts`). */
export class Blocks {
  private constructor(
    /** The shape of the operand, as if it were a tensor. */
    readonly shape: readonly number[],
    readonly cut: Cut,
    /** The blocks in f16, one after the other. */
    readonly tensor: Tensor,
    /** The tensor that was packed, if it still exists. */
    readonly source?: Tensor,
  ) {}

  /** Allocates blocks with undefined contents. */
  static empty(gpu: Gpu, shape: readonly number[], cut: Cut, source?: Tensor): Blocks {
    const k = shape.at(-1)!;
    const count = blockCount(cut, sizeOf(shape) / k, k);
    return new Blocks(shape, cut, gpu.tensor([count, cut.rows, 8 * cut.depth], "f16"), source);
  }

  /** @param x [..., k]; k a multiple of 8 */
  static of(gpu: Gpu, x: Tensor, cut: Cut): Blocks {
    const blocks = Blocks.empty(gpu, x.shape, cut, x), y = blocks.tensor;
    const eights = x.dim(-1) / 8, rows = x.size / x.dim(-1), count = y.size / 8;
    gpu.run(packBlocks({ format: x.matrixFormat, ...cut, index: INDEX_1D }), {
      buffers: { x, y },
      params: { rows, eights, count },
      workgroups: groups1d(count),
    });
    return blocks;
  }

  /** As `Tensor.rows`, with all axes but the last as one. `start` is a multiple of a block's rows. */
  rows(start: number, count: number): Blocks {
    const { cut } = this, k = this.shape.at(-1)!;
    if (start % cut.rows !== 0) throw new Error(`rows ${start}.. do not begin where a block of ${cut.rows} does`);
    return new Blocks([count, k], cut, this.tensor.rows(blockCount(cut, start, k), blockCount(cut, count, k)));
  }
}

/** An operand of a product. */
export type Operand = Tensor | Blocks;

/** The blocks that a variant wants its operands in; undefined where it takes plain tensors. */
export function cutsOf(
  gpu: Gpu,
  variant: ProductVariant | undefined,
): { readonly x: Cut; readonly w: Cut } | undefined {
  if (variant?.by !== "matrix units" || !variant.tile.packed) return undefined;
  const units = gpu.matrixUnits!, [x, w] = matrixTileSize(variant.tile, units);
  const depth = variant.tile.depth * units.k / 8;
  return { x: { rows: x, depth }, w: { rows: w, depth } };
}

/** The tensor that a variant reads: the operand itself, or its blocks, which may exist already. */
export function cutOperand(gpu: Gpu, operand: Operand, cut: Cut | undefined): Tensor {
  const { source, blocks } = operand instanceof Blocks
    ? { source: operand.source, blocks: operand }
    : { source: operand, blocks: undefined };
  if (cut && blocks && cut.rows === blocks.cut.rows && cut.depth === blocks.cut.depth) return blocks.tensor;
  if (!source) throw new Error(`blocks of ${blocks!.cut.rows}x${8 * blocks!.cut.depth} are not what the product takes`);
  return cut ? Blocks.of(gpu, source, cut).tensor : source;
}
