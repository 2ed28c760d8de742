/**
 * Representatives of buckets of tokens: each bucket keeps its centre and the tokens least like it, and the others take
 * over what the centre gets.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, unroll, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./grid.ts";

/** Disjoint buckets of one size, and the tokens outside all of them. */
export interface Buckets {
  /** [buckets, size], u32: each bucket's tokens */
  readonly members: Tensor;
  /** Place of the centre in a bucket. */
  readonly centre: number;
  /** Tokens of a bucket that are kept beside the centre. */
  readonly keep: number;
  /** [n], u32: tokens in no bucket, always kept; absent where there are none */
  readonly rest: Tensor | undefined;
}

/** What is kept, for each head. */
export interface Selection {
  /** [batch · heads, buckets · (1 + keep) + rest], u32: the centres, then the kept ones bucket by bucket, then the rest */
  readonly order: Tensor;
  /** [batch · heads, tokens], u32: the token whose output a token takes; its own where it is kept */
  readonly source: Tensor;
}

/** Kept tokens of one head. */
export function keptSlots({ members, keep, rest }: Buckets): number {
  return members.dim(0) * (1 + keep) + (rest?.dim(0) ?? 0);
}

const SELECT = memo(({ size, centre }: { size: number; centre: number }): KernelSource => {
  const others = Array.from({ length: size }, (_, m) => m).filter((m) => m !== centre);
  return {
    name: `bucket_select_${size}_${centre}`,
    buffers: {
      x: read("vec4f"),
      members: read("u32"),
      rest: read("u32"),
      head_ids: read("u32"),
      order: write("u32"),
      source: write("u32"),
    },
    params: {
      buckets: "u32",
      keep: "u32",
      rest_count: "u32",
      tokens: "u32",
      heads: "u32",
      chosen: "u32",
      has_heads: "u32",
      head_dim4: "u32",
      slots: "u32",
      count: "u32",
    },
    workgroupSize: [64, 1, 1],
    body: `  ${INDEX_1D}
  if (i >= p.count) { return; }
  // A thread for each bucket and each token outside them.
  let each = p.buckets + p.rest_count;
  let place = i % each;
  let pick = (i / each) % p.chosen;
  let batch = i / (each * p.chosen);
  let row = batch * p.heads + select(pick, head_ids[pick], p.has_heads != 0u);
  let order_at = row * p.slots;
  let source_at = row * p.tokens;
  if (place >= p.buckets) {
    let token = rest[place - p.buckets];
    order[order_at + p.buckets * (1u + p.keep) + place - p.buckets] = token;
    source[source_at + token] = token;
    return;
  }
  let head = row % p.heads;
  let first = place * ${size}u;
  let centre = members[first + ${centre}u];
  let centre_at = ((batch * p.tokens + centre) * p.heads + head) * p.head_dim4;
${
      unroll(others.length, (n) =>
        `  let t${n} = members[first + ${others[n]}u];
  let at${n} = ((batch * p.tokens + t${n}) * p.heads + head) * p.head_dim4;
  var dot${n} = 0.0; var norm${n} = 0.0;`)
    }
  for (var c = 0u; c < p.head_dim4; c++) {
    let m = x[centre_at + c];
${unroll(others.length, (n) => `    { let v = x[at${n} + c]; dot${n} += dot(m, v); norm${n} += dot(v, v); }`)}
  }
  // The centre's own length is the same for all and leaves the order as it is; a token of length 0 is like no other.
  var likeness: array<f32, ${others.length}>;
${unroll(others.length, (n) => `  likeness[${n}] = dot${n} / max(sqrt(norm${n}), 1e-12);`)}
  order[order_at + place] = centre;
  source[source_at + centre] = centre;
  for (var n = 0u; n < ${others.length}u; n++) {
    var rank = 0u;
    for (var o = 0u; o < ${others.length}u; o++) {
      if (likeness[o] < likeness[n] || (likeness[o] == likeness[n] && o < n)) { rank++; }
    }
    let token = members[first + n + select(0u, 1u, n >= ${centre}u)];
    source[source_at + token] = select(centre, token, rank < p.keep);
    if (rank < p.keep) { order[order_at + p.buckets + place * p.keep + rank] = token; }
  }`,
  };
});

/**
 * Picks, for each head and bucket, the tokens whose vectors are least like the centre's by their cosine.
 *
 * @param x [batch, tokens, heads · head dim], f32
 * @param only [n], u32: heads to do; what belongs to others is left undefined. Default all
 */
export function bucketSelect(gpu: Gpu, x: Tensor, heads: number, buckets: Buckets, only?: Tensor): Selection {
  const [batch, tokens, dim] = x.shape as [number, number, number];
  const { members, centre, keep, rest } = buckets;
  const chosen = only?.dim(0) ?? heads, each = members.dim(0) + (rest?.dim(0) ?? 0);
  const slots = keptSlots(buckets);
  const order = gpu.tensor([batch * heads, slots], "u32"), source = gpu.tensor([batch * heads, tokens], "u32");
  const count = batch * chosen * each;
  gpu.run(SELECT({ size: members.dim(1), centre }), {
    buffers: { x, members, rest: rest ?? gpu.placeholder, head_ids: only ?? gpu.placeholder, order, source },
    params: {
      buckets: members.dim(0),
      keep,
      rest_count: rest?.dim(0) ?? 0,
      tokens,
      heads,
      chosen,
      has_heads: only ? 1 : 0,
      head_dim4: dim / heads / 4,
      slots,
      count,
    },
    workgroups: groups1d(count),
  });
  return { order, source };
}

const SPREAD: KernelSource = {
  name: "bucket_spread",
  buffers: { source: read("u32"), head_ids: read("u32"), y: write("vec4f") },
  params: {
    tokens: "u32",
    heads: "u32",
    chosen: "u32",
    has_heads: "u32",
    head_dim4: "u32",
    count: "u32",
  },
  workgroupSize: [64, 1, 1],
  body: `  ${INDEX_1D}
  if (i >= p.count) { return; }
  let c = i % p.head_dim4;
  let pick = (i / p.head_dim4) % p.chosen;
  let token = (i / (p.head_dim4 * p.chosen)) % p.tokens;
  let batch = i / (p.head_dim4 * p.chosen * p.tokens);
  let head = select(pick, head_ids[pick], p.has_heads != 0u);
  let giver = source[(batch * p.heads + head) * p.tokens + token];
  if (giver == token) { return; }
  y[((batch * p.tokens + token) * p.heads + head) * p.head_dim4 + c] =
    y[((batch * p.tokens + giver) * p.heads + head) * p.head_dim4 + c];`,
};

/** Gives every token that is not kept what its centre has, in place: y [batch, tokens, heads · head dim], f32. */
export function bucketSpread(gpu: Gpu, y: Tensor, heads: number, { source }: Selection, only?: Tensor): void {
  const [batch, tokens, dim] = y.shape as [number, number, number];
  const chosen = only?.dim(0) ?? heads, count = batch * tokens * chosen * dim / heads / 4;
  gpu.run(SPREAD, {
    buffers: { source, head_ids: only ?? gpu.placeholder, y },
    params: { tokens, heads, chosen, has_heads: only ? 1 : 0, head_dim4: dim / heads / 4, count },
    workgroups: groups1d(count),
  });
}

const COLLECT = memo((size: number): KernelSource => ({
  name: `bucket_collect_${size}`,
  buffers: { members: read("u32"), source: read("u32"), y: write("vec4f") },
  params: { buckets: "u32", centre: "u32", tokens: "u32", heads: "u32", head_dim4: "u32", count: "u32" },
  workgroupSize: [64, 1, 1],
  body: `  ${INDEX_1D}
  if (i >= p.count) { return; }
  let c = i % p.head_dim4;
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
}));

/** The way back through {@link bucketSpread}, in place: centres get the sum over the tokens that copied them, these get 0. */
export function bucketCollect(
  gpu: Gpu,
  y: Tensor,
  heads: number,
  { members, centre }: Buckets,
  { source }: Selection,
): void {
  const [batch, tokens, dim] = y.shape as [number, number, number];
  const buckets = members.dim(0), count = batch * buckets * dim / 4;
  gpu.run(COLLECT(members.dim(1)), {
    buffers: { members, source, y },
    params: { buckets, centre, tokens, heads, head_dim4: dim / heads / 4, count },
    workgroups: groups1d(count),
  });
}
