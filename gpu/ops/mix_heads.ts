import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const kernel = memo((terms: number) =>
  perElement({
    name: `mix_heads_${terms}`,
    buffers: {
      ...Object.fromEntries(Array.from({ length: terms }, (_, i) => [`x${i}`, read("vec4f")])),
      ...Object.fromEntries(Array.from({ length: terms }, (_, i) => [`w${i}`, read("f32")])),
      y: write("vec4f"),
    },
    params: u32s("tokens", "heads", "head_dim4"),
    body: `  let dim4 = p.heads * p.head_dim4;
  let head = (i / (dim4 * p.tokens)) * p.heads + (i % dim4) / p.head_dim4;
  y[i] = ${Array.from({ length: terms }, (_, t) => `w${t}[head] * x${t}[i]`).join(" + ")};`,
  })
);

/**
 * Weighted sums Σ wᵢ·xᵢ, with one weight for each head.
 *
 * @param terms one to seven pairs of wᵢ [batch, heads] and xᵢ [batch, tokens, heads · head dim], f32
 * @returns [batch, tokens, heads · head dim], f32
 */
export function mixHeads(gpu: Gpu, terms: readonly (readonly [weights: Tensor, x: Tensor])[]): Tensor {
  const [weights, x] = terms[0]!;
  const heads = weights.dim(1);
  const operands = Object.fromEntries(terms.flatMap(([w, x], i) => [[`w${i}`, w], [`x${i}`, x]]));
  return runPerElement(gpu, kernel(terms.length), { ...operands, y: gpu.tensor(x.shape) }, {
    ...{ tokens: x.dim(1), heads, head_dim4: x.dim(2) / heads / 4 },
  });
}
