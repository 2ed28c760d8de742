import { columns } from "../../../gpu/ops/columns.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { Tape } from "../../../gpu/tape.ts";
import { assertEquals, assertThrows } from "@std/assert";
import { assertClose, randn, testVariants, toBf16 } from "../../gpu.ts";
import { kernelsOf } from "../../gradients.ts";

testVariants("columns of a weight, in formats of 32 and of 16 bits", async ({ gpu }) => {
  for (const [rows, all, first, count] of [[1, 2, 0, 2], [7, 10, 4, 6], [131, 20, 2, 6]] as const) {
    const numbers = randn(rows * all, 1);
    const expected = <T>(of: ArrayLike<T>) =>
      Array.from({ length: rows * count }, (_, i) => of[Math.floor(i / count) * all + first + i % count]!);
    const y = columns(gpu, gpu.upload(numbers, [rows, all]), first, count);
    assertEquals(y.shape, [rows, count]);
    assertEquals([...await gpu.read(y)], expected(numbers));
    const { packed } = toBf16(numbers), words = new Uint16Array(packed.buffer);
    const halves = columns(gpu, gpu.upload(packed, [rows, all], "bf16"), first, count);
    const read = new Uint16Array((await gpu.readBytes(halves)).slice(0, 2 * rows * count));
    assertEquals([...read], expected(words));
  }
});

testVariants("columns of a weight that is too large to bind", async ({ gpu }) => {
  const rows = 600, all = 12, numbers = randn(rows * all, 1), w = gpu.upload(numbers, [rows, all]);
  const whole = await gpu.read(columns(gpu, w, 4, 8));
  // A part of 256 rows is what fits.
  Object.defineProperty(gpu, "maxTensorBytes", { configurable: true, get: () => 300 * all * 4 });
  try {
    const names = kernelsOf(gpu, () => void columns(gpu, w, 4, 8));
    assertEquals(names, ["columns", "columns", "columns"]);
    assertEquals(await gpu.read(columns(gpu, w, 4, 8)), whole);
  } finally {
    delete (gpu as { maxTensorBytes?: number }).maxTensorBytes;
  }
});

testVariants("products with parts of a weight add up to the product with all of it", async ({ gpu, bound }) => {
  const [m, n, k] = [70, 36, 60], part = 24, w = gpu.upload(randn(n * k, 1), [n, k]), x = randn(m * k, 2);
  const cut = (first: number, count: number) =>
    gpu.upload(
      Float32Array.from({ length: m * count }, (_, i) => x[Math.floor(i / count) * k + first + i % count]!),
      [m, count],
    );
  const half = linear(gpu, cut(0, part), columns(gpu, w, 0, part));
  const both = linear(gpu, cut(part, k - part), columns(gpu, w, part, k - part), { residual: half });
  assertClose(await gpu.read(both), await gpu.read(linear(gpu, gpu.upload(x, [m, k]), w)), 2 * bound);
});

testVariants("columns: what is refused", ({ gpu }) => {
  const w = gpu.upload(randn(30, 1), [3, 10]), halves = gpu.upload(toBf16(randn(30, 1)).packed, [3, 10], "bf16");
  assertThrows(() => columns(gpu, w, 4, 7), Error, "has no columns 4..11");
  assertThrows(() => columns(gpu, halves, 1, 2), Error, "no whole words");
  gpu.scope(() => {
    const tape = new Tape([w]), y = gpu.taping(tape, () => columns(gpu, w, 0, 2)), dy = gpu.upload(randn(6, 1), [3, 2]);
    assertThrows(() => tape.gradients(gpu, y, dy, [w]), Error, "no gradient for input 0");
  });
  return Promise.resolve();
});
