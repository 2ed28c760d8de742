import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";

const KERNEL = perElement({
  name: "rotate_halves",
  buffers: { x: read("f32"), rope: read("f32"), y: write("f32") },
  params: u32s("dim", "tokens", "half"),
  body: `  let token = i / p.dim % p.tokens;
  let channel = i % (2u * p.half);
  let at = 2u * (token * p.half + channel % p.half);
  if (channel < p.half) { y[i] = x[i] * rope[at] - x[i + p.half] * rope[at + 1u]; }
  else { y[i] = x[i] * rope[at] + x[i - p.half] * rope[at + 1u]; }`,
});

/**
 * Rotary position embedding as LLaMA has it: a pair is a channel of a head's first half and the one that lies as far
 * into the second half. Wan's and HunyuanVideo's, where neighbours are a pair, is part of `rmsNorm`.
 *
 * @param x [batch, tokens, heads · head dim], f32
 * @param rope [tokens, head dim / 2, 2], f32: cos and sin for each pair
 */
export function rotateHalves(gpu: Gpu, x: Tensor, rope: Tensor): Tensor {
  const [, tokens, dim] = x.shape as [number, number, number], half = rope.dim(1);
  if (rope.dim(0) !== tokens || dim % (2 * half) !== 0) {
    throw new Error(`rotateHalves: x [${x.shape}], [${rope.shape}]`);
  }
  return runPerElement(gpu, KERNEL, { x, rope, y: gpu.tensor(x.shape) }, { dim, tokens, half });
}
