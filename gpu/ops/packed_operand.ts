/**
 * Operands of matrix products in the forms that kernels read fastest.
 *
 * @module
 */
import { leastCommonMultiple } from "../common/divisors.ts";
import { i8 } from "../formats/i8.ts";
import type { Gpu } from "../gpu.ts";
import { isSameForm, type OperandForm } from "../kernels/gemm/operand_form.ts";
import { groupOf, packPanels, panelCount, unpackPanels } from "../kernels/gemm/pack.ts";
import { sizeOf, type Tensor } from "../tensor.ts";
import { runPerElement } from "../kernels/per_element.ts";
import { quantiseInto } from "./quantise.ts";

/** Scales can be bound from multiples of this on, which are 256 bytes apart. */
const SCALES_STEP = 64;

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

  /** Allocates an operand with undefined contents. One in "i8" gets scales, unless its source is in "i8" already. */
  static empty(gpu: Gpu, shape: readonly number[], form: OperandForm, source?: Tensor): PackedOperand {
    const k = shape.at(-1)!, rows = sizeOf(shape) / k, { numbers, panel } = form;
    if (!panel && numbers === "f16") throw new Error("f16 is packed in panels");
    const group = groupOf(numbers);
    const tensor = panel
      ? gpu.tensor([panelCount(panel, rows, k / group), panel.rows, group * panel.depth], numbers)
      : gpu.tensor([rows, k], numbers);
    const scale = numbers === "i8" && !(source && isInt8(source)) ? gpu.tensor([rows]) : undefined;
    return new PackedOperand(shape, form, tensor, scale, source);
  }

  /** @param x [..., k]; k a multiple of 8; for "i8" of 4, and for panels of it of 16 */
  static of(gpu: Gpu, x: Tensor, form: OperandForm): PackedOperand {
    const packed = PackedOperand.empty(gpu, x.shape, form, x), { tensor: y, scale } = packed, { numbers, panel } = form;
    if (scale) {
      quantiseInto(gpu, x, y, scale, panel);
    } else {
      const k = x.dim(-1), params = { groups: k / groupOf(numbers), rows: x.size / k };
      runPerElement(gpu, packPanels({ format: x.matrixFormat, numbers, ...panel! }), { x, y }, params);
    }
    return packed;
  }

  /** The same operand, for when the tensor that was packed is gone. */
  withoutSource(): PackedOperand {
    return new PackedOperand(this.shape, this.form, this.tensor, this.scale);
  }

  /** The numbers in rows again: [rows, k], in the format in which they are packed. Not with scales. */
  unpacked(gpu: Gpu): Tensor {
    const { shape, form: { numbers, panel }, tensor, scale } = this, k = shape.at(-1)!;
    if (scale) throw new Error("a quantised input is not unpacked");
    if (!panel) return tensor;
    const y = gpu.tensor([sizeOf(shape) / k, k], numbers), groups = k / groupOf(numbers);
    runPerElement(gpu, unpackPanels(panel), { x: tensor, y }, { groups });
    return y;
  }

  /** Rows can be cut at multiples of this: where a panel begins, and both numbers and scales can be bound. */
  get rowStep(): number {
    const step = this.form.panel?.rows ?? 1, scales = this.scale ? SCALES_STEP : 1;
    return leastCommonMultiple(step, scales);
  }

  /** As `Tensor.rows`, with all axes but the last as one. `start` is a multiple of {@link rowStep}. */
  rows(start: number, count: number): PackedOperand {
    const { form, form: { panel }, tensor, scale, rowStep } = this, k = this.shape.at(-1)!;
    if (start % rowStep !== 0) {
      throw new Error(`rows ${start}.. of a packed operand do not begin at a multiple of ${rowStep}`);
    }
    const groups = k / groupOf(form.numbers);
    const numbers = panel
      ? tensor.rows(panelCount(panel, start, groups), panelCount(panel, count, groups))
      : tensor.rows(start, count);
    return new PackedOperand([count, k], form, numbers, scale?.rows(start, count));
  }
}

const isInt8 = ({ matrixFormat }: Tensor) => matrixFormat.name === i8.name;

/** Packs a tensor that nothing else reads, and releases it. */
export function packedAway(gpu: Gpu, x: Tensor, form: OperandForm): PackedOperand {
  const packed = PackedOperand.of(gpu, x, form).withoutSource();
  gpu.release(x);
  return packed;
}

/** An operand as a plain tensor: what was packed, or its numbers in rows again. */
export const plainOperand = (gpu: Gpu, operand: Operand): Tensor =>
  operand instanceof PackedOperand ? operand.source ?? operand.unpacked(gpu) : operand;

/** An operand of a product. */
export type Operand = Tensor | PackedOperand;

/** An operand as a kernel reads it. */
export interface ReadableOperand {
  readonly tensor: Tensor;
  /** The scales of the rows of a quantised input. */
  readonly scale?: Tensor | undefined;
}

/** Whether an operand's numbers are in this buffer. */
export const isIn = (buffer: GPUBuffer, operand: Operand): boolean =>
  buffer === (operand instanceof PackedOperand ? operand.tensor : operand).buffer;

/** What a product reads: the operand itself, or the form that it asks for, which may exist already. */
export function readableOperand(gpu: Gpu, operand: Operand, form: OperandForm | undefined): ReadableOperand {
  if (!(operand instanceof PackedOperand)) return form ? PackedOperand.of(gpu, operand, form) : { tensor: operand };
  if (form && isSameForm(form, operand.form)) return operand;
  const { numbers } = operand.form;
  if (form && form.numbers !== numbers && !operand.source) throw new Error(`the product takes no ${numbers}`);
  return readableOperand(gpu, plainOperand(gpu, operand), form);
}
