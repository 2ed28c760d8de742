/**
 * Operands of matrix products in the forms that kernels read fastest.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { isSameForm, type OperandForm } from "../kernels/gemm/operand_form.ts";
import { packPanels, panelCount } from "../kernels/gemm/pack.ts";
import { sizeOf, type Tensor } from "../tensor.ts";
import { runPerElement } from "../kernels/per_element.ts";
import { quantiseInto } from "./quantise.ts";

/** An operand in another form than a plain tensor (see `kernels/gemm/operand_form.ts`). */
export class PackedOperand {
  private constructor(
    /** The shape of the operand, as if it were a tensor. */
    readonly shape: readonly number[],
    readonly form: OperandForm,
    /** The numbers. Panels follow one another. */
    readonly tensor: Tensor,
    /** The scales of the rows of a quantised input: [rows], f32. Those of weights are beside the weight. */
    readonly scale?: Tensor,
    /** The tensor that was packed, if it still exists. */
    readonly source?: Tensor,
  ) {}

  /** Allocates an operand with undefined contents; one in "i8" is an input and gets scales. */
  static empty(gpu: Gpu, shape: readonly number[], form: OperandForm, source?: Tensor): PackedOperand {
    const k = shape.at(-1)!, rows = sizeOf(shape) / k, { numbers, panel } = form;
    if (numbers === "i8") {
      if (panel) throw new Error("no panels of i8");
      return new PackedOperand(shape, form, gpu.tensor([rows, k], "i8"), gpu.tensor([rows]), source);
    }
    if (!panel) throw new Error("f16 is packed in panels");
    const tensor = gpu.tensor([panelCount(panel, rows, k), panel.rows, 8 * panel.depth], "f16");
    return new PackedOperand(shape, form, tensor, undefined, source);
  }

  /** @param x [..., k]; k a multiple of 8, or of 4 for rows of "i8" */
  static of(gpu: Gpu, x: Tensor, form: OperandForm): PackedOperand {
    const packed = PackedOperand.empty(gpu, x.shape, form, x), { tensor: y, scale } = packed;
    if (scale) {
      quantiseInto(gpu, x, y, scale);
    } else {
      const params = { eights: x.dim(-1) / 8, rows: x.size / x.dim(-1) };
      runPerElement(gpu, packPanels({ format: x.matrixFormat, ...form.panel! }), { x, y }, params);
    }
    return packed;
  }

  /** The same operand, for when the tensor that was packed is gone. */
  withoutSource(): PackedOperand {
    return new PackedOperand(this.shape, this.form, this.tensor, this.scale);
  }

  /** Rows can be cut at multiples of this: where a panel begins, and both numbers and scales can be bound. */
  get rowStep(): number {
    return this.form.panel?.rows ?? 64;
  }

  /** As `Tensor.rows`, with all axes but the last as one. `start` is a multiple of {@link rowStep}. */
  rows(start: number, count: number): PackedOperand {
    const { form, form: { panel }, tensor, scale, rowStep } = this, k = this.shape.at(-1)!;
    if (start % rowStep !== 0) {
      throw new Error(`rows ${start}.. of a packed operand do not begin at a multiple of ${rowStep}`);
    }
    const numbers = panel
      ? tensor.rows(panelCount(panel, start, k), panelCount(panel, count, k))
      : tensor.rows(start, count);
    return new PackedOperand([count, k], form, numbers, scale?.rows(start, count));
  }
}

/** Packs a tensor that nothing else reads, and releases it. */
export function packedAway(gpu: Gpu, x: Tensor, form: OperandForm): PackedOperand {
  const packed = PackedOperand.of(gpu, x, form).withoutSource();
  gpu.release(x);
  return packed;
}

/** An operand of a product. */
export type Operand = Tensor | PackedOperand;

/** An operand as a kernel reads it. */
export interface ReadableOperand {
  readonly tensor: Tensor;
  /** The scales of the rows of a quantised input. */
  readonly scale?: Tensor | undefined;
}

/** What a product reads: the operand itself, or the form that it asks for, which may exist already. */
export function readableOperand(gpu: Gpu, operand: Operand, form: OperandForm | undefined): ReadableOperand {
  if (!(operand instanceof PackedOperand)) return form ? PackedOperand.of(gpu, operand, form) : { tensor: operand };
  if (form && isSameForm(form, operand.form)) return operand;
  if (!operand.source) throw new Error(`the product takes no ${operand.form.numbers} in this form`);
  return readableOperand(gpu, operand.source, form);
}
