/**
 * Operands that several products share: packed once, in the form that these products read fastest.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { isBindable, sharedPanels } from "./gemm.ts";
import { type Operand, PackedOperand } from "./packed_operand.ts";

/**
 * Returns x in the form that products with weights like `w` read fastest; this may be x itself. What is packed belongs
 * to the enclosing scope.
 */
export function sharedInput(gpu: Gpu, x: Operand, w: Operand): Operand {
  if (x instanceof PackedOperand) return x;
  const panel = sharedPanels(gpu, x.size / x.dim(-1), w)?.x;
  return panel ? PackedOperand.of(gpu, x, panel) : x;
}

/** The same for w, for inputs of `rows` rows. */
export function sharedWeight(gpu: Gpu, w: Operand, rows: number): Operand {
  if (w instanceof PackedOperand) return w;
  const panel = sharedPanels(gpu, rows, w)?.w;
  return panel && isBindable(gpu, w) ? PackedOperand.of(gpu, w, panel) : w;
}
