/**
 * Packs activations to f16, which takes half the memory.
 *
 * @module
 */
import { clampedBuffer, noteClamped } from "../clamps.ts";
import { f32 } from "../formats/f32.ts";
import { NOTE } from "../formats/halves.ts";
import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import type { ProductVariant } from "../kernels/product/variants.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const { element, read: readEight, halves } = f32.read.eight;

const PACK = perElement({
  name: "pack_halves",
  buffers: { x: read(element), y: write("vec4u"), ...clampedBuffer },
  params: {},
  declarations: noteClamped("inputs of convolutions") + halves("halves", NOTE),
  body: `  y[i] = halves(${readEight("x", "i")});`,
});

/**
 * Converts to f16. Numbers that f16 cannot hold are clamped.
 *
 * @param x f32, a multiple of 8 numbers
 */
function packHalves(gpu: Gpu, x: Tensor): Tensor {
  if (x.size % 8 !== 0) throw new Error(`packHalves of ${x.size} numbers`);
  return runPerElement(gpu, PACK, { x, y: gpu.tensor(x.shape, "f16") });
}

/** Calls `record` with the operands as its variant wants them: unchanged, or packed temporarily. */
export function withOperands(
  gpu: Gpu,
  variant: ProductVariant | undefined,
  operands: readonly Tensor[],
  record: (operands: readonly Tensor[]) => void,
): void {
  if (variant?.by !== "matrix units" || !variant.tile.packed) return record(operands);
  const packed = operands.map((operand) => packHalves(gpu, operand));
  record(packed);
  packed.forEach((operand) => gpu.release(operand));
}
