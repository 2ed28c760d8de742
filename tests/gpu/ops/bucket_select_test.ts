import { bucketSelect, keptSlots } from "../../../gpu/ops/bucket_select.ts";
import { bucketSpread } from "../../../gpu/ops/bucket_spread.ts";
import { assert, assertEquals } from "@std/assert";
import { randn, testVariants } from "../../gpu.ts";

const BATCH = 2, HEADS = 3;

interface Case {
  readonly headDim: number;
  readonly buckets: number;
  readonly size: number;
  readonly centre: number;
  readonly keep: number;
  readonly rest: number;
}

/**
 * One bucket; more than a workgroup takes; larger than it can share; few threads to a bucket; more rest than threads.
 */
const CASES: readonly Case[] = [
  { headDim: 128, buckets: 33, size: 12, centre: 9, keep: 5, rest: 70 },
  { headDim: 64, buckets: 1, size: 2, centre: 1, keep: 0, rest: 0 },
  { headDim: 32, buckets: 5, size: 40, centre: 21, keep: 19, rest: 3 },
  { headDim: 24, buckets: 19, size: 8, centre: 6, keep: 7, rest: 1 },
  { headDim: 4, buckets: 70, size: 6, centre: 4, keep: 2, rest: 130 },
];

/** Tokens of the buckets and those in none, all of them shuffled. */
function cut({ buckets, size, rest }: Case): { members: Uint32Array; rest: Uint32Array } {
  const keys = randn(buckets * size + rest, 9);
  const tokens = Uint32Array.from(keys.keys()).sort((a, b) => keys[a]! - keys[b]!);
  return { members: tokens.slice(0, buckets * size), rest: tokens.slice(buckets * size) };
}

/** What one head keeps, by definition. */
function select(vector: (token: number) => Float32Array, c: Case): { order: number[]; source: number[] } {
  const { members, rest } = cut(c);
  const cosine = (a: Float32Array, b: Float32Array) => {
    const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, v, d) => sum + v * y[d]!, 0);
    return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  };
  const centres: number[] = [], kept: number[] = [];
  const source = Array.from({ length: members.length + rest.length }, (_, token) => token);
  for (let bucket = 0; bucket < c.buckets; bucket++) {
    const own = [...members.subarray(bucket * c.size, (bucket + 1) * c.size)], centre = own[c.centre]!;
    const others = own.filter((token) => token !== centre)
      .map((token) => ({ token, likeness: cosine(vector(token), vector(centre)) }))
      .sort((a, b) => a.likeness - b.likeness).map(({ token }) => token);
    centres.push(centre);
    kept.push(...others.slice(0, c.keep));
    for (const token of others.slice(c.keep)) source[token] = centre;
  }
  return { order: [...centres, ...kept, ...rest], source };
}

testVariants("bucket selection keeps centres and what is least like them; the others take over", async ({ gpu }) => {
  for (const c of CASES) {
    const { members, rest } = cut(c), tokens = members.length + rest.length, dim = HEADS * c.headDim;
    const x = randn(BATCH * tokens * dim, 1);
    const buckets = {
      members: gpu.upload(members, [c.buckets, c.size], "u32"),
      centre: c.centre,
      keep: c.keep,
      rest: c.rest > 0 ? gpu.upload(rest, [c.rest], "u32") : undefined,
    };
    const gx = gpu.upload(x, [BATCH, tokens, dim]);
    for (const heads of [[0, 1, 2], [2, 0]]) {
      const only = heads.length < HEADS ? gpu.upload(Uint32Array.from(heads), [heads.length], "u32") : undefined;
      const selection = bucketSelect(gpu, gx, HEADS, buckets, { only });
      const order = new Uint32Array(await gpu.readBytes(selection.order));
      const source = new Uint32Array(await gpu.readBytes(selection.source));
      const slots = keptSlots(buckets), y = gpu.upload(x, [BATCH, tokens, dim]);
      bucketSpread(gpu, y, HEADS, selection, only);
      const spread = await gpu.read(y);
      for (let list = 0; list < BATCH * HEADS; list++) {
        const b = Math.floor(list / HEADS), h = list % HEADS;
        const at = (token: number) => (b * tokens + token) * dim + h * c.headDim;
        const vector = (of: Float32Array, token: number) => of.subarray(at(token), at(token) + c.headDim);
        const chosen = heads.includes(h);
        const expected = select((token) => vector(x, token), c);
        if (chosen) {
          assertEquals([...order.subarray(list * slots, (list + 1) * slots)], expected.order, `order, ${c.headDim}`);
          assertEquals(
            [...source.subarray(list * tokens, (list + 1) * tokens)],
            expected.source,
            `source, ${c.headDim}`,
          );
        }
        for (let token = 0; token < tokens; token++) {
          const from = vector(x, chosen ? expected.source[token]! : token), found = vector(spread, token);
          assert(found.every((v, d) => v === from[d]), `token ${token} of ${c.headDim}`);
        }
      }
    }
  }
});

testVariants("every slot has a token of its own, also where numbers went wrong", async ({ gpu }) => {
  for (const c of CASES) {
    const { members, rest } = cut(c), tokens = members.length + rest.length;
    const buckets = {
      ...{ members: gpu.upload(members, [c.buckets, c.size], "u32"), centre: c.centre, keep: c.size - 1 },
      rest: c.rest > 0 ? gpu.upload(rest, [c.rest], "u32") : undefined,
    };
    for (const share of [0.3, 1]) {
      const wrong = randn(tokens * c.headDim, 2).map((x, i) => (Math.sin(i) + 1) / 2 <= share ? NaN : x * Infinity);
      const { order } = bucketSelect(gpu, gpu.upload(wrong, [1, tokens, c.headDim]), 1, buckets);
      const found = [...new Uint32Array(await gpu.readBytes(order))].sort((a, b) => a - b);
      assertEquals(found, [...Array(tokens).keys()], `${share} of ${c.headDim}`);
    }
  }
});
