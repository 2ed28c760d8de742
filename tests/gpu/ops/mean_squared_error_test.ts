import { countNonFinite } from "../../../gpu/ops/count_non_finite.ts";
import { meanSquaredError, meanSquaredErrorGradient, squaredErrorSums } from "../../../gpu/ops/mean_squared_error.ts";
import { assertAlmostEquals, assertEquals } from "@std/assert";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { differences } from "../../gradients.ts";

for (const size of [1, 77, 4096, 50003]) {
  testVariants(`mean squared error of ${size}, and its gradient`, async ({ gpu }) => {
    const a = randn(size, 1), b = randn(size, 2).map((v, i) => a[i]! + 1e-3 * v), weight = 20;
    const [x, y] = [a, b].map((v) => gpu.upload(v, [size])) as [never, never];
    const squares = Array.from(a, (v, i) => (v - b[i]!) ** 2), ref = squares.reduce((s, v) => s + v, 0) / size;
    const sums = await gpu.read(squaredErrorSums(gpu, x, y));
    assertAlmostEquals(meanSquaredError(sums, size) / ref, 1, 1e-6);
    assertEquals(await gpu.read(squaredErrorSums(gpu, x, y)), sums);
    const gradient = await gpu.read(meanSquaredErrorGradient(gpu, x, y, weight));
    const loss = (row: Float64Array, r: number) => row.map((v) => weight * (v - b[r]!) ** 2 / size);
    assertClose(gradient, differences(a, 1, new Float32Array(size).fill(1), loss), 1e-6);
  });
}

testVariants("what is not finite is counted", async ({ gpu }) => {
  const bits = { nan: 0x7fc00000, negativeNan: 0xffc00001, signalling: 0x7f800001, inf: 0x7f800000, minus: 0xff800000 };
  const count = async (words: Uint32Array) => {
    const x = gpu.upload(new Uint8Array(words.buffer), [words.length]);
    const counts = new Uint32Array(await gpu.readBytes(countNonFinite(gpu, x)));
    return counts.reduce((total, n) => total + n, 0);
  };
  const one = (word: number) => count(Uint32Array.of(word));
  for (const word of Object.values(bits)) assertEquals(await one(word), 1);
  // The largest number, the smallest, both zeros.
  for (const word of [0x7f7fffff, 0xff7fffff, 1, 0x80000001, 0, 0x80000000]) assertEquals(await one(word), 0);
  const many = new Uint32Array(randn(30001, 1).buffer);
  assertEquals(await count(many), 0);
  Object.values(bits).forEach((word, i) => many[i * 7500] = word);
  assertEquals(await count(many), 5);
});
