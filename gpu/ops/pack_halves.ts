/**
 * Packs activations to f16, which takes half the memory.
 *
 * @module
 */
import { clampedBuffer } from "../clamps.ts";
import { countedHalves } from "../formats/halves.ts";
import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const PACK = perElement({
  name: "pack_halves",
  buffers: { x: read("vec4f"), y: write("vec2u"), ...clampedBuffer },
  params: u32s("start", "size"),
  declarations: countedHalves("inputs of convolutions"),
  body: "  y[(p.start + i) % p.size] = four_halves(x[i]);",
});

/**
 * Converts to f16. Numbers that f16 cannot hold are clamped.
 *
 * @param x f32, a multiple of 4 numbers
 * @param options.into where to write the result from element `start` on, instead of to a new tensor: f16. Behind its end,
 * writing goes on at its beginning
 */
export function packHalves(
  gpu: Gpu,
  x: Tensor,
  { into, start = 0 }: { readonly into?: Tensor; readonly start?: number } = {},
): Tensor {
  const y = into ?? gpu.tensor(x.shape, "f16");
  if (x.size % 4 !== 0 || start % 4 !== 0 || y.size % 4 !== 0 || x.size > y.size) {
    throw new Error(`packHalves of [${x.shape}] into [${y.shape}] from ${start}`);
  }
  return runPerElement(gpu, PACK, { x, y }, { start: start / 4, size: y.size / 4 }, x.size / 4);
}
