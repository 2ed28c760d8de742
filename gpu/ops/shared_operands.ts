/**
 * Operands that several products share: packed once, in the form that these products read fastest.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { isBindable, sharedForms } from "./gemm.ts";
import { isSameForm } from "../kernels/gemm/operand_form.ts";
import { type Operand, packedAway, PackedOperand, plainOperand } from "./packed_operand.ts";

/**
 * Returns x in the form that products with weights like `w` read fastest; this may be x itself. What is packed belongs
 * to the enclosing scope.
 */
export function sharedInput(gpu: Gpu, x: Operand, w: Operand): Operand {
  if (x instanceof PackedOperand) return x;
  const form = sharedForms(gpu, x.size / x.dim(-1), w).x;
  return form ? PackedOperand.of(gpu, x, form) : x;
}

/** As {@link sharedInput}, for an x that nothing else reads: it is released where it is packed. */
export function lastInput(gpu: Gpu, x: Operand, w: Operand): Operand {
  if (x instanceof PackedOperand) return x;
  const form = sharedForms(gpu, x.size / x.dim(-1), w).x;
  return form ? packedAway(gpu, x, form) : x;
}

/** The same for w, for inputs of `rows` rows. A weight that is packed in another form is a new tensor again. */
export function sharedWeight(gpu: Gpu, w: Operand, rows: number): Operand {
  const form = sharedForms(gpu, rows, w).w, packed = w instanceof PackedOperand;
  if (packed ? form && isSameForm(form, w.form) : !form || !isBindable(gpu, w)) return w;
  const plain = plainOperand(gpu, w);
  return form ? PackedOperand.of(gpu, plain, form).withoutSource() : plain;
}
