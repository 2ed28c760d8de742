import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const KERNEL = perElement({
  name: "zero_past_length",
  buffers: { x: read("f32"), lengths: read("u32"), y: write("f32") },
  params: u32s("tokens", "dim"),
  body: `  let token = i / p.dim;
  y[i] = select(0.0, x[i], token % p.tokens < lengths[token / p.tokens]);`,
});

/**
 * Copies each sequence up to its length, and writes zeros after it.
 *
 * @param x [batch, tokens, dim], f32
 * @param lengths [batch], u32
 */
export function zeroPastLength(gpu: Gpu, x: Tensor, lengths: Tensor): Tensor {
  return runPerElement(gpu, KERNEL, { x, lengths, y: gpu.tensor(x.shape) }, { tokens: x.dim(1), dim: x.dim(2) });
}
