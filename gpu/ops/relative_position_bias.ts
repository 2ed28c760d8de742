import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const KERNEL = perElement({
  name: "relative_position_bias",
  buffers: { table: read("f32"), buckets: read("u32"), y: write("f32") },
  params: u32s("tokens", "heads"),
  body: `  let key = i % p.tokens;
  let query = (i / p.tokens) % p.tokens;
  let head = i / (p.tokens * p.tokens);
  y[i] = table[buckets[key + p.tokens - 1u - query] * p.heads + head];`,
});

/**
 * Makes an attention bias: what each head adds to the score of a query and a key, by their distance.
 *
 * @param table [buckets, heads], f32
 * @param buckets [2 · tokens − 1], u32: the bucket of each distance key − query, from 1 − tokens up
 * @returns [heads, tokens, tokens], f32, ready as the `bias` of `attention`
 */
export function relativePositionBias(gpu: Gpu, table: Tensor, buckets: Tensor): Tensor {
  const tokens = (buckets.dim(0) + 1) / 2, heads = table.dim(1);
  const y = gpu.tensor([heads, tokens, tokens], "f32", "the position bias of the text encoder");
  return runPerElement(gpu, KERNEL, { table, buckets, y }, { tokens, heads });
}
