/**
 * Operands that several products share: packed once, in the form that these products read fastest.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { isBindable, sharedForms } from "./gemm.ts";
import { type Operand, PackedOperand } from "./packed_operand.ts";

/**
 * Returns x in the form that products with weights like `w` read fastest; this may be x itself. What is packed belongs
 * to the enclosing scope.
 */
export function sharedInput(gpu: Gpu, x: Operand, w: Operand): Operand {
  if (x instanceof PackedOperand) return x;
  const form = sharedForms(gpu, x.size / x.dim(-1), w).x;
  return form ? PackedOperand.of(gpu, x, form) : x;
}

/** The same for w, for inputs of `rows` rows. */
export function sharedWeight(gpu: Gpu, w: Operand, rows: number): Operand {
  if (w instanceof PackedOperand) return w;
  const form = sharedForms(gpu, rows, w).w;
  return form && isBindable(gpu, w) ? PackedOperand.of(gpu, w, form) : w;
}
