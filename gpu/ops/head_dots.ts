import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const KERNEL = perElement({
  name: "head_dots",
  buffers: { a: read("vec4f"), b: read("vec4f"), y: write("f32") },
  params: { head_dim4: "u32" },
  body: `  var sum = 0.0;
  for (var c = i * p.head_dim4; c < (i + 1u) * p.head_dim4; c++) { sum += dot(a[c], b[c]); }
  y[i] = sum;`,
});

/**
 * Σ a·b over the channels of each head.
 *
 * @param a [batch, tokens, heads · head dim], f32; head dim a multiple of 4
 * @param b as a
 * @returns [batch, tokens, heads], f32
 */
export function headDots(gpu: Gpu, a: Tensor, b: Tensor, heads: number): Tensor {
  const y = gpu.tensor([a.dim(0), a.dim(1), heads]);
  return runPerElement(gpu, KERNEL, { a, b, y }, { head_dim4: a.dim(2) / heads / 4 });
}
