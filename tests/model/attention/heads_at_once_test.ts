import { assertEquals } from "@std/assert";
import { FullAttention } from "../../../model/attention/full.ts";
import { groupHeads, headsAtOnce, packedKeysBytes } from "../../../model/attention/head_groups.ts";
import { randn, testVariants } from "../../gpu.ts";

Deno.test("attention packs the keys and values of so many heads at once as fit half a gigabyte", () => {
  const f16 = { f16: true }, f32 = { f16: false };
  const small = { heads: 12, headDim: 128 }, large = { layers: 40, heads: 40, headDim: 128 };
  assertEquals(headsAtOnce(f16, small, 32760), 12);
  assertEquals(headsAtOnce(f16, large, 75600), 10);
  assertEquals(packedKeysBytes(f16, large, 75600), 10 * 75600 * 128 * 4);
  assertEquals(headsAtOnce(f16, large, 10 ** 7), 1);
  assertEquals([headsAtOnce(f32, large, 75600), packedKeysBytes(f32, large, 75600)], [40, 0]);
});

testVariants("heads in several parts give what they give at once", async ({ gpu }) => {
  const [tokens, heads, headDim] = [24, 6, 16], layout = { grid: [2, 3, 4] as const, kept: 0 };
  const [q, k, v] = [1, 2, 3].map((seed) => gpu.upload(randn(tokens * heads * headDim, seed), [1, tokens, 96]));
  const read = async (atOnce: number) => {
    using full = new FullAttention(gpu, { heads, headDim }, layout, atOnce);
    assertEquals(full.parts.map((only) => only.size), atOnce === 4 ? [4, 2] : [6]);
    return await gpu.read(full.attend(q!, k!, v!));
  };
  assertEquals(await read(4), await read(6));
  const { result: groups, tensors } = gpu.collect(() =>
    groupHeads(gpu, [[0, 1, 2, 4, 5], []], (_, head) => head > 3, 2)
  );
  assertEquals(groups.map((layer) => layer.map(({ of, heads }) => [of, heads])), [
    [[false, [0, 1]], [false, [2]], [true, [4, 5]]],
    [],
  ]);
  for (const tensor of tensors) gpu.release(tensor);
});
