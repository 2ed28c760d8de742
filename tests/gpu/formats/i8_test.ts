import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Gpu } from "../../../gpu/gpu.ts";
import { castInto, castToInt8 } from "../../../gpu/ops/cast.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { matmul } from "../../../gpu/ops/matmul.ts";
import { assertClose, randn, testVariants, toBf16, turned } from "../../gpu.ts";
import { gradientsOnGpu, linearRow } from "../../gradients.ts";

/** Casts a matrix, and reads what was written. */
async function cast(
  gpu: Gpu,
  ...[x, more]: [x: Parameters<typeof castToInt8>[1], more?: Parameters<typeof castToInt8>[4]]
) {
  const y = gpu.tensor(x.shape, "i8"), scales = gpu.tensor([x.shape[0]!]);
  castToInt8(gpu, x, y, scales, more);
  return { y, scales, integers: new Int8Array(await gpu.readBytes(y)), factors: await gpu.read(scales) };
}

/**
 * Fails unless each number, turned, is the nearest multiple of its row's scale, which is the largest magnitude over 127;
 * what lies between two multiples may become either.
 */
function assertQuantised(integers: Int8Array, factors: Float32Array, of: ArrayLike<number>, k: number, what = "") {
  const values = turned(of);
  assertEquals(integers.length, values.length);
  for (const [row, factor] of factors.entries()) {
    const part = Array.from({ length: k }, (_, i) => values[row * k + i]!);
    const top = Math.max(...part.map(Math.abs)), scale = top / 127;
    assert(Math.abs(factor - scale) <= 2e-7 * scale, `${what}: the scale of row ${row} is ${factor}, not ${scale}`);
    for (const [i, v] of part.entries()) {
      const off = Math.abs(integers[row * k + i]! - v / scale);
      assert(off <= 0.5 + 1e-4, `${what}: ${v} in row ${row} is ${integers[row * k + i]} of ${scale}`);
    }
    if (top > 0) assert(part.some((_, i) => Math.abs(integers[row * k + i]!) === 127), `${what}: row ${row} is small`);
  }
}

for (const [n, k] of [[1, 4], [5, 20], [9, 516], [131, 1040]] as const) {
  testVariants(`a matrix of ${n}x${k} is cast to int8, as its numbers in float64 say`, async ({ gpu }) => {
    // Rows of all sizes; a single large number makes the rest of its row small.
    const values = randn(n * k, 1).map((v, i) => v * 10 ** (Math.floor(i / k) % 6 - 4) * (i % 97 === 3 ? 20 : 1));
    const bf16 = toBf16(values), f16 = Float16Array.from(values);
    for (
      const [format, data, exact] of [
        ["f32", values, values],
        ["bf16", bf16.packed, bf16.values],
        ["f16", new Uint8Array(f16.buffer), Float32Array.from(f16)],
      ] as const
    ) {
      const { integers, factors } = await cast(gpu, gpu.upload(data, [n, k], format));
      assertQuantised(integers, factors, exact, k, format);
    }
    const scale = randn(n, 2), added = randn(n * k, 3, 0.1);
    const x = gpu.upload(values, [n, k]), more = { scale: gpu.upload(scale, [n]), added: gpu.upload(added, [n, k]) };
    const { integers, factors } = await cast(gpu, x, more);
    // Sums are rounded to f32 first.
    const sums = values.map((v, i) => Math.fround(Math.fround(v * scale[Math.floor(i / k)]!) + added[i]!));
    assertQuantised(integers, factors, sums, k, "scaled and added to");
  });
}

testVariants("rows of zeros, tiny numbers, ties and NaN are cast to int8", async ({ gpu }) => {
  const ties = [127, -0.5, 1.5, 2.5, -3.5, 126.5, 0, -127];
  const rows = [ties, ties.map(() => 0), ties.map(() => 1e-38), ties.map((v, i) => i === 2 ? NaN : v)];
  const { integers, factors } = await cast(gpu, gpu.upload(Float32Array.from(turned(rows.flat())), [4, 8]));
  assertEquals([...integers.slice(0, 8)], [127, 0, 2, 2, -4, 126, 0, -127]);
  assertEquals([...integers.slice(8, 24)], Array(16).fill(0));
  assertEquals([factors[0], factors[1]], [1, 0]);
  assert(factors[2]! < 1e-39);
  assert(Number.isNaN(factors[3]), `NaN became ${factors[3]}`);
});

testVariants("parts of rows are cast to int8 where they belong", async ({ gpu }) => {
  const [n, k] = [320, 256], values = randn(n * k, 1), y = gpu.tensor([n, k], "i8"), scales = gpu.tensor([n]);
  for (const [row, count] of [[0, 256], [256, 64]] as const) {
    const part = gpu.upload(values.subarray(row * k, (row + count) * k), [count, k]);
    castToInt8(gpu, part, y.rows(row, count), scales.rows(row, count));
  }
  assertQuantised(new Int8Array(await gpu.readBytes(y)), await gpu.read(scales), values, k);
  const wrong = (shape: number[], format: "i8" | "f16", count: number) => () =>
    castToInt8(gpu, gpu.tensor([4, 8]), gpu.tensor(shape, format), gpu.tensor([count]));
  for (const act of [wrong([4, 4], "i8", 4), wrong([4, 8], "f16", 4), wrong([4, 8], "i8", 3)]) {
    assertThrows(act, Error, "cast of [4,8] f32 to");
  }
  assertThrows(() => castInto(gpu, gpu.tensor([4, 8]), gpu.tensor([4, 8], "i8"), 0), Error, "cast of [4,8] f32 to");
});

testVariants("all bytes are decoded and multiplied by, forwards, backwards and by matmul", async ({ gpu, bound }) => {
  const [m, n, k] = [5, 16, 16], bytes = Uint8Array.from({ length: n * k }, (_, i) => i);
  const integers = Float32Array.from(turned(new Int8Array(bytes.buffer))), w = gpu.upload(bytes, [n, k], "i8");
  const decoded = gpu.tensor([n, k]);
  castInto(gpu, w, decoded, gpu.clampCounter("i8"));
  assertEquals(await gpu.read(decoded), integers);
  const factors = randn(n, 2, 0.01), values = Float64Array.from(integers, (v, i) => v * factors[Math.floor(i / k)]!);
  const x = randn(m * k, 1), dy = randn(m * n, 3), input = gpu.upload(x, [m, k]), scale = gpu.upload(factors, [n]);
  const product = (x: Float32Array, w: Float64Array, k: number) =>
    Array.from({ length: x.length / k }, (_, i) => i).flatMap((i) => [
      ...linearRow(Float64Array.from(x.subarray(i * k, (i + 1) * k)), w, new Float32Array(w.length / k)),
    ]);
  assertClose(await gpu.read(linear(gpu, input, w, { scale })), product(x, values, k), bound);
  const [dx] = await gradientsOnGpu(gpu, [input], dy, () => linear(gpu, input, w, { scale }));
  const flipped = Float64Array.from({ length: k * n }, (_, i) => values[(i % n) * k + Math.floor(i / n)]!);
  assertClose(dx!, product(dy, flipped, n), 2e-6);
  const y = matmul(gpu, input.reshape([1, m, k]), w.reshape([1, n, k]), { transposeB: true });
  assertClose(await gpu.read(y), product(x, Float64Array.from(integers), k), 2e-6);
});
