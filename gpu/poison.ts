import { write } from "./kernel.ts";
import type { Gpu } from "./gpu.ts";
import { perElement, runPerElement } from "./kernels/per_element.ts";
import type { Tensor } from "./tensor.ts";

/** A NaN of f32, and two of bf16 or f16. */
const NAN = 0x7fc07fc0;

const FILL = perElement({
  name: "fill",
  buffers: { y: write("u32") },
  params: { value: "u32" },
  body: "  y[i] = p.value;",
});

/** Fills a tensor with NaN, so that tests notice values that a kernel did not write. */
export function poison(gpu: Gpu, tensor: Tensor): void {
  runPerElement(gpu, FILL, { y: tensor }, { value: NAN });
}
