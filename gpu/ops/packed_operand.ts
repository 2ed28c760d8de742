/**
 * Operands of matrix products in the layout that matrix units read fastest.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { packPanels, panelCount, type PanelShape } from "../kernels/gemm/pack.ts";
import { sizeOf, type Tensor } from "../tensor.ts";
import { runPerElement } from "../kernels/per_element.ts";

/** An operand that is packed into panels, in f16 (see `kernels/gemm/pack.ts`). */
export class PackedOperand {
  private constructor(
    /** The shape of the operand, as if it were a tensor. */
    readonly shape: readonly number[],
    readonly panel: PanelShape,
    /** The panels in f16, one after the other. */
    readonly tensor: Tensor,
    /** The tensor that was packed, if it still exists. */
    readonly source?: Tensor,
  ) {}

  /** Allocates an operand with undefined contents. */
  static empty(gpu: Gpu, shape: readonly number[], panel: PanelShape, source?: Tensor): PackedOperand {
    const k = shape.at(-1)!;
    const count = panelCount(panel, sizeOf(shape) / k, k);
    return new PackedOperand(shape, panel, gpu.tensor([count, panel.rows, 8 * panel.depth], "f16"), source);
  }

  /** @param x [..., k]; k a multiple of 8 */
  static of(gpu: Gpu, x: Tensor, panel: PanelShape): PackedOperand {
    const packed = PackedOperand.empty(gpu, x.shape, panel, x), y = packed.tensor;
    const params = { eights: x.dim(-1) / 8, rows: x.size / x.dim(-1) };
    runPerElement(gpu, packPanels({ format: x.matrixFormat, ...panel }), { x, y }, params);
    return packed;
  }

  /** As `Tensor.rows`, with all axes but the last as one. `start` is a multiple of a panel's rows. */
  rows(start: number, count: number): PackedOperand {
    const { panel } = this, k = this.shape.at(-1)!;
    if (start % panel.rows !== 0) throw new Error(`rows ${start}.. do not begin where a panel of ${panel.rows} does`);
    const panels = this.tensor.rows(panelCount(panel, start, k), panelCount(panel, count, k));
    return new PackedOperand([count, k], panel, panels);
  }
}

/** An operand of a product. */
export type Operand = Tensor | PackedOperand;

/** The tensor that a product reads: the operand itself, or its panels, which may exist already. */
export function readableOperand(gpu: Gpu, operand: Operand, panel: PanelShape | undefined): Tensor {
  if (!(operand instanceof PackedOperand)) return panel ? PackedOperand.of(gpu, operand, panel).tensor : operand;
  const { panel: { rows, depth }, source, tensor } = operand;
  if (panel && rows === panel.rows && depth === panel.depth) return tensor;
  if (!source) throw new Error(`the product takes no panels of ${rows}x${8 * depth}`);
  return readableOperand(gpu, source, panel);
}
