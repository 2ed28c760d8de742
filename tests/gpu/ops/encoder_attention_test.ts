import { assertThrows } from "@std/assert";
import { causalMask, encoderAttention } from "../../../gpu/ops/encoder_attention.ts";
import { rotateHalves } from "../../../gpu/ops/rotate_halves.ts";
import { attend } from "../../reference_attention.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";

/** What each head of queries sees of [batch, tokens, key heads · head dim]. */
function repeated(x: Float32Array, keyHeads: number, heads: number, headDim: number): Float32Array {
  return Float32Array.from({ length: x.length / keyHeads * heads }, (_, i) => {
    const channel = i % headDim, head = Math.floor(i / headDim) % heads, token = Math.floor(i / headDim / heads);
    return x[(token * keyHeads + Math.floor(head * keyHeads / heads)) * headDim + channel]!;
  });
}

// Heads that no kernel for GPUs takes are filled up; 351 tokens are those of HunyuanVideo's prompts.
for (
  const [batch, tokens, heads, keyHeads, headDim, lengths] of [
    [1, 1, 1, 1, 16, undefined],
    [2, 37, 4, 2, 16, [37, 5]],
    [1, 19, 3, 3, 12, undefined],
    [1, 6, 2, 1, 6, [4]],
    [1, 351, 2, 1, 32, [123]],
    [2, 77, 2, 2, 64, undefined],
  ] as const
) {
  const name = `${batch}x${tokens}, ${heads} heads of ${headDim} on ${keyHeads}${lengths ? `, ${lengths} valid` : ""}`;
  testVariants(`causal attention: ${name}`, async ({ gpu, bound }) => {
    const q = randn(batch * tokens * heads * headDim, 1);
    const [k, v] = [2, 3].map((seed) => randn(batch * tokens * keyHeads * headDim, seed)) as [
      Float32Array,
      Float32Array,
    ];
    const upload = (x: Float32Array) => gpu.upload(x, [batch, tokens, x.length / batch / tokens]);
    const y = encoderAttention(gpu, upload(q), upload(k), upload(v), {
      ...{ heads, keyHeads, mask: causalMask(gpu, heads, tokens) },
      ...lengths && { keyLengths: gpu.upload(Uint32Array.from(lengths), [batch], "u32") },
    });
    const [allK, allV] = [k, v].map((x) => repeated(x, keyHeads, heads, headDim)) as [Float32Array, Float32Array];
    const sees = (b: number, _: number, i: number, j: number) => j <= i && j < (lengths?.[b] ?? tokens);
    const ref = attend(q, allK, allV, { batch, queries: tokens, keys: tokens, heads, headDim, sees });
    assertClose(await gpu.read(y), ref, bound);
  });
}

testVariants("causal attention sees nothing that comes later, however large", async ({ gpu }) => {
  const [tokens, dim] = [21, 16], x = randn(tokens * dim, 1), later = x.slice();
  for (let i = 9 * dim; i < later.length; i++) later[i]! *= 1000;
  const run = (x: Float32Array) => {
    const operand = gpu.upload(x, [1, tokens, dim]);
    return gpu.read(encoderAttention(gpu, operand, operand, operand, { heads: 1, mask: causalMask(gpu, 1, tokens) }));
  };
  assertClose((await run(later)).subarray(0, 9 * dim), (await run(x)).subarray(0, 9 * dim), 0);
});

testVariants("key heads that do not divide the heads of queries are refused", ({ gpu }) => {
  const x = (heads: number) => gpu.upload(randn(5 * heads * 16, 1), [1, 5, heads * 16]);
  const mask = causalMask(gpu, 3, 5);
  assertThrows(() => encoderAttention(gpu, x(3), x(2), x(2), { heads: 3, keyHeads: 2, mask }), Error, "shared by 3");
  return Promise.resolve();
});

for (const [batch, tokens, heads, headDim] of [[1, 1, 1, 2], [2, 7, 3, 10], [1, 33, 2, 128]] as const) {
  testVariants(`rotary embedding over halves ${batch}x${tokens}x${heads}x${headDim}`, async ({ gpu }) => {
    const half = headDim / 2, x = randn(batch * tokens * heads * headDim, 1), angles = randn(tokens * half, 2, 3);
    const rope = Float32Array.from([...angles].flatMap((angle) => [Math.cos(angle), Math.sin(angle)]));
    const ref = x.map((v, i) => {
      const channel = i % headDim, token = Math.floor(i / headDim / heads) % tokens;
      const angle = angles[token * half + channel % half]!;
      const other = channel < half ? -x[i + half]! : x[i - half]!;
      return v * Math.cos(angle) + other * Math.sin(angle);
    });
    const y = rotateHalves(gpu, gpu.upload(x, [batch, tokens, heads * headDim]), gpu.upload(rope, [tokens, half, 2]));
    assertClose(await gpu.read(y), ref, 1e-6);
  });
}
