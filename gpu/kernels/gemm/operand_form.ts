/**
 * The forms in which products read operands that are not plain tensors.
 *
 * @module
 */
import type { PanelNumbers, PanelShape } from "./pack.ts";

/** A form: the format of the numbers, and how they are arranged. */
export interface OperandForm {
  /** "i8" is quantised: an input has a scale for each row beside it. */
  readonly numbers: PanelNumbers;
  /** The panels that the operand is cut into. Without them, rows follow one another. */
  readonly panel?: PanelShape;
}

/** The forms of the operands of a product. Undefined stands for a plain tensor. */
export interface OperandForms {
  readonly x?: OperandForm | undefined;
  readonly w?: OperandForm | undefined;
}

/** Whether an operand of one form is also of the other. */
export function isSameForm(a: OperandForm, b: OperandForm): boolean {
  return a.numbers === b.numbers && a.panel?.rows === b.panel?.rows && a.panel?.height === b.panel?.height &&
    a.panel?.depth === b.panel?.depth;
}
