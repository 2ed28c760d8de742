import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, u32s, unroll, write } from "../kernel.ts";
import { chosenHead, chosenHeads, HEAD_PARAMS } from "../kernels/chosen_heads.ts";
import { memo } from "../kernels/memo.ts";
import { SORT_KEY } from "../kernels/sort_key.ts";
import type { Tensor } from "../tensor.ts";

/** Disjoint buckets of one size, and the tokens that are in no bucket. */
export interface Buckets {
  /** [buckets, size], u32: each bucket's tokens */
  readonly members: Tensor;
  /** The position of the centre in a bucket. */
  readonly centre: number;
  /** How many tokens of a bucket are kept beside the centre. */
  readonly keep: number;
  /** [n], u32: tokens in no bucket, which are always kept; absent where there are none */
  readonly rest: Tensor | undefined;
  /** The first token after those of all buckets; tokens from there on may be padding. Default: the end */
  readonly end?: number;
}

export interface Selection {
  /**
   * [batch · heads, buckets · (1 + keep) + rest], u32: the centres, then the kept ones bucket by bucket, then the
   * rest. Where keys are selected by themselves, twice as many: the keys' slots, then the queries'.
   */
  readonly order: Tensor;
  /** [batch · heads, tokens], u32: for each token, the token whose output it takes; itself if it is kept */
  readonly source: Tensor;
  /** `source` is defined for the tokens before this one. */
  readonly end: number;
}

/** The number of kept tokens of one head. */
export function keptSlots({ members, keep, rest }: Buckets): number {
  return members.dim(0) * (1 + keep) + (rest?.dim(0) ?? 0);
}

/** The shared part of both kernels. A head has `slots` slots; the first of them to write is `first_slot`. */
const SHARED = {
  buffers: {
    ...{ x: read("vec4f"), members: read("u32"), rest: read("u32"), head_ids: read("u32") },
    ...{ order: write("u32"), source: write("u32") },
  },
  params: {
    ...u32s("buckets", "keep", "rest_count", "tokens"),
    ...HEAD_PARAMS,
    ...u32s("head_dim4", "slots", "first_slot"),
  },
} as const;

/** Defines the head, and the offsets of its lists. Workgroups: z counts heads of all batch items. */
const SELECT_HEAD = `  let batch = wid.z / p.chosen;
${chosenHead("head", "wid.z % p.chosen")}
  let order_at = (batch * p.heads + head) * p.slots + p.first_slot;
  let source_at = (batch * p.heads + head) * p.tokens;`;

/** Tokens in no bucket follow those of the buckets. */
const SELECT_REST = `fn keep_rest(place: u32, order_at: u32, source_at: u32) {
  if (place >= p.rest_count) { return; }
  let token = rest[place];
  order[order_at + p.buckets * (1u + p.keep) + place] = token;
  source[source_at + token] = token;
}`;

/**
 * Writes the result for the bucket's nth other token.
 *
 * @param likeness WGSL: the similarity of a given token to the centre
 */
const SELECT_STORE = (others: number, centre: number, likeness: (n: string) => string) =>
  `  var rank = 0u;
  for (var o = 0u; o < ${others}u; o++) {
    if (${likeness("o")} < ${likeness("n")} || (${likeness("o")} == ${likeness("n")} && o < n)) { rank++; }
  }
  let token = members[first + n + select(0u, 1u, n >= ${centre}u)];
  source[source_at + token] = select(centre, token, rank < p.keep);
  if (rank < p.keep) { order[order_at + p.buckets + bucket * p.keep + rank] = token; }`;

/** The properties that distinguish one selecting kernel from another. */
interface SelectVariant {
  readonly size: number;
  readonly centre: number;
  /** The number of threads that share a bucket. */
  readonly lanes: number;
}

/** Computes, over the thread's vec4s, the dot products of each other token with the centre and with itself. */
function selectSums({ size, centre, lanes }: SelectVariant): string {
  const others = Array.from({ length: size }, (_, m) => m).filter((m) => m !== centre);
  return `  let first = bucket * ${size}u;
  let centre = members[first + ${centre}u];
  let centre_at = ((batch * p.tokens + centre) * p.heads + head) * p.head_dim4;
${
    unroll(others.length, (n) =>
      `  let at${n} = ((batch * p.tokens + members[first + ${others[n]}u]) * p.heads + head) * p.head_dim4;
  var dot${n} = 0.0; var norm${n} = 0.0;`)
  }
  for (var c = lane; c < p.head_dim4; c += ${lanes}u) {
    let m = x[centre_at + c];
${unroll(others.length, (n) => `    let v${n} = x[at${n} + c];`)}
${unroll(others.length, (n) => `    dot${n} += dot(m, v${n}); norm${n} += dot(v${n}, v${n});`)}
  }`;
}

/**
 * The centre's own length is the same for all tokens and does not change the order. A token of length 0 has the least
 * similarity. Similarities are compared by {@link SORT_KEY}, so each token has a distinct rank even where a similarity is
 * NaN. Otherwise a slot of the order might stay unwritten and send attention to any address.
 */
const LIKENESS = `${SORT_KEY}
fn likeness_of(dot: f32, norm: f32) -> u32 { return sort_key(bitcast<u32>(dot / max(sqrt(norm), 1e-12))); }`;

/** The number of threads of a workgroup, for both kernels. */
const THREADS = 64;

/** For software adapters, and for buckets that are too large to share: one thread for each bucket. */
const SELECT_PLAIN = memo((variant: SelectVariant): KernelSource => {
  const others = variant.size - 1;
  return {
    name: `bucket_select_plain_${variant.size}_${variant.centre}`,
    ...SHARED,
    workgroupSize: [THREADS, 1, 1],
    declarations: `${LIKENESS}\n${SELECT_REST}`,
    body: `${SELECT_HEAD}
  if (gid.x >= p.buckets) {
    keep_rest(gid.x - p.buckets, order_at, source_at);
    return;
  }
  let bucket = gid.x;
  let lane = 0u;
${selectSums(variant)}
  var likeness: array<u32, ${others}>;
${unroll(others, (n) => `  likeness[${n}] = likeness_of(dot${n}, norm${n});`)}
  order[order_at + bucket] = centre;
  source[source_at + centre] = centre;
  for (var n = 0u; n < ${others}u; n++) {
${SELECT_STORE(others, variant.centre, (n) => `likeness[${n}]`)}
  }`,
  };
});

/** For GPUs: neighbouring threads read neighbouring vec4s of a token, and share the summation. */
const SELECT_SHARED = memo((variant: SelectVariant): KernelSource => {
  const others = variant.size - 1, { lanes } = variant, buckets = THREADS / lanes;
  // The parts of each sum are stored together, padded by one, so that threads that add different sums use different
  // banks.
  const stride = lanes + 1;
  return {
    name: `bucket_select_${variant.size}_${variant.centre}_${lanes}`,
    ...SHARED,
    workgroupSize: [THREADS, 1, 1],
    declarations: `${LIKENESS}
${SELECT_REST}
var<workgroup> parts: array<vec2f, ${buckets * others * stride}>;
var<workgroup> likeness: array<u32, ${buckets * others}>;`,
    body: `${SELECT_HEAD}
  let bucket_groups = (p.buckets + ${buckets - 1}u) / ${buckets}u;
  // The same for the whole workgroup.
  if (wid.x >= bucket_groups) {
    keep_rest((wid.x - bucket_groups) * ${THREADS}u + li, order_at, source_at);
    return;
  }
  let lane = li % ${lanes}u;
  let own = li / ${lanes}u;
  // Threads of the last workgroup that have no bucket repeat the last bucket.
  let bucket = min(wid.x * ${buckets}u + own, p.buckets - 1u);
${selectSums(variant)}
  let part_at = own * ${others * stride}u;
${unroll(others, (n) => `  parts[part_at + ${n * stride}u + lane] = vec2f(dot${n}, norm${n});`)}
  workgroupBarrier();
  for (var n = lane; n < ${others}u; n += ${lanes}u) {
    var sum = vec2f();
${unroll(lanes, (i) => `    sum += parts[part_at + n * ${stride}u + ${i}u];`)}
    likeness[own * ${others}u + n] = likeness_of(sum.x, sum.y);
  }
  workgroupBarrier();
  if (lane == 0u) {
    order[order_at + bucket] = centre;
    source[source_at + centre] = centre;
  }
  for (var n = lane; n < ${others}u; n += ${lanes}u) {
${SELECT_STORE(others, variant.centre, (n) => `likeness[own * ${others}u + ${n}]`)}
  }`,
  };
});

/**
 * The number of tokens of a bucket whose sums fit into 32 KiB of workgroup memory, for any head of 8 channels or more.
 */
const MOST_SHARED = 32;

/** The largest power of two that divides the number of a head's vec4s, but at most a subgroup's number of threads. */
function selectLanes(headDim4: number): number {
  let lanes = 1;
  while (lanes < 32 && headDim4 % (2 * lanes) === 0) lanes *= 2;
  return lanes;
}

/**
 * Selects, for each head and bucket, the centre and the tokens whose vectors are least similar to it, by cosine. The
 * other tokens copy the centre's output: see `bucketSpread`.
 *
 * @param x [batch, tokens, heads · head dim], f32: queries
 * @param options.only [n], u32: the heads to process; the results of other heads are undefined. Default: all
 * @param options.keys as x. Given, keys are selected by their own similarity. Default: the tokens of the selected
 * queries are kept
 */
export function bucketSelect(
  gpu: Gpu,
  x: Tensor,
  heads: number,
  buckets: Buckets,
  { only, keys }: { readonly only?: Tensor | undefined; readonly keys?: Tensor | undefined } = {},
): Selection {
  const [batch, tokens, dim] = x.shape as [number, number, number];
  const { members, centre, keep, rest, end = tokens } = buckets;
  const { chosen, head_ids, params } = chosenHeads(gpu, { heads, only });
  const count = members.dim(0), size = members.dim(1);
  const headDim4 = dim / heads / 4, restCount = rest?.dim(0) ?? 0;
  const slots = keptSlots(buckets) * (keys ? 2 : 1);
  const order = gpu.tensor([batch * heads, slots], "u32"), source = gpu.tensor([batch * heads, tokens], "u32");
  const lanes = selectLanes(headDim4);
  const shared = !gpu.kernels.plain && lanes > 1 && size <= MOST_SHARED;
  const groups = shared
    ? Math.ceil(count * lanes / THREADS) + Math.ceil(restCount / THREADS)
    : Math.ceil((count + restCount) / THREADS);
  const select = (x: Tensor, first: number) =>
    gpu.run(shared ? SELECT_SHARED({ size, centre, lanes }) : SELECT_PLAIN({ size, centre, lanes: 1 }), {
      buffers: { x, members, rest: rest ?? gpu.placeholder, head_ids, order, source },
      params: {
        ...{ ...params, buckets: count, keep, rest_count: restCount, tokens },
        ...{ head_dim4: headDim4, slots, first_slot: first },
      },
      workgroups: [groups, 1, batch * chosen],
    });
  // Outputs are spread as queries were selected, so queries come last: they overwrite the keys' sources.
  if (keys) select(keys, 0);
  select(x, keys ? slots / 2 : 0);
  return { order, source, end };
}
