import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, u32s, unroll, write } from "../kernel.ts";
import { chosenHead, chosenHeads } from "../kernels/chosen_heads.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import type { Buckets, Selection } from "./bucket_select.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** The number of tokens of one thread of {@link SPREAD}. */
const SPREAD_TOKENS = 4;

/** Workgroups: y counts heads, z counts batch items. */
const SPREAD: KernelSource = {
  name: "bucket_spread",
  buffers: { source: read("u32"), head_ids: read("u32"), y: write("vec4f") },
  // Tokens from `end` on are not in buckets. A workgroup's threads process `abreast` tokens at once.
  params: u32s("tokens", "end", "heads", "has_heads", "head_dim4", "abreast"),
  workgroupSize: [256, 1, 1],
  body: `${chosenHead("head", "wid.y")}
  let source_at = (wid.z * p.heads + head) * p.tokens;
  let at = (wid.z * p.tokens * p.heads + head) * p.head_dim4;
  let row = p.heads * p.head_dim4;
  let place = li / p.head_dim4;
  if (place >= p.abreast) { return; }
  let c = at + li % p.head_dim4;
  let first = wid.x * p.abreast * ${SPREAD_TOKENS}u + place;
${
    unroll(SPREAD_TOKENS, (i) =>
      `  {
    let token = first + ${i}u * p.abreast;
    if (token < p.end) {
      let giver = source[source_at + token];
      if (giver != token) { y[c + token * row] = y[c + giver * row]; }
    }
  }`)
  }`,
};

/** Overwrites every token that is not kept with its centre's value: y [batch, tokens, heads · head dim], f32. */
export function bucketSpread(gpu: Gpu, y: Tensor, heads: number, { source, end }: Selection, only?: Tensor): void {
  const [batch, tokens, dim] = y.shape as [number, number, number];
  const headDim4 = dim / heads / 4, abreast = Math.floor(256 / headDim4);
  const { chosen, head_ids, params } = chosenHeads(gpu, { heads, only });
  gpu.run(SPREAD, {
    buffers: { source, head_ids, y },
    params: { ...params, tokens, end, head_dim4: headDim4, abreast },
    workgroups: [Math.ceil(end / (abreast * SPREAD_TOKENS)), chosen, batch],
  });
}

const COLLECT = memo((size: number) =>
  perElement({
    name: `bucket_collect_${size}`,
    buffers: { members: read("u32"), source: read("u32"), y: write("vec4f") },
    params: u32s("buckets", "centre", "tokens", "heads", "head_dim4"),
    body: `  let c = i % p.head_dim4;
  let head = (i / p.head_dim4) % p.heads;
  let bucket = (i / (p.head_dim4 * p.heads)) % p.buckets;
  let batch = i / (p.head_dim4 * p.heads * p.buckets);
  let sources = (batch * p.heads + head) * p.tokens;
  var sum = vec4f();
${
      unroll(size, (m) =>
        `  {
    let token = members[bucket * ${size}u + ${m}u];
    if (source[sources + token] != token) {
      let at = ((batch * p.tokens + token) * p.heads + head) * p.head_dim4 + c;
      sum += y[at];
      y[at] = vec4f();
    }
  }`)
    }
  let centre = members[bucket * ${size}u + p.centre];
  y[((batch * p.tokens + centre) * p.heads + head) * p.head_dim4 + c] += sum;`,
  })
);

/**
 * The backward pass of {@link bucketSpread}, in place. A centre gets the sum over the tokens that copied it; those
 * tokens get 0.
 */
export function bucketCollect(
  gpu: Gpu,
  y: Tensor,
  heads: number,
  { members, centre }: Buckets,
  { source }: Selection,
): void {
  const [batch, tokens, dim] = y.shape as [number, number, number];
  const [buckets, size] = members.shape as [number, number];
  const params = { buckets, centre, tokens, heads, head_dim4: dim / heads / 4 };
  runPerElement(gpu, COLLECT(size), { members, source, y }, params, batch * buckets * dim / 4);
}
