import { assert, assertEquals } from "@std/assert";
import { PackedOperand } from "../../../gpu/ops/packed_operand.ts";
import { Gpu } from "../../../gpu/gpu.ts";
import { layerNorm, layerNormInto } from "../../../gpu/ops/layer_norm.ts";
import { assertClose, randn, testVariants, toBf16, turned } from "../../gpu.ts";

// Fewer vec4s than threads, more, and more than threads hold.
for (const k of [4, 20, 640, 6404]) {
  testVariants(`rows of ${k} are quantised to nearest`, async ({ gpu }) => {
    const rows = 9, { packed, values } = toBf16(randn(rows * k, k, 3));
    for (const x of [gpu.upload(values, [3, 3, k]), gpu.upload(packed, [3, 3, k], "bf16")]) {
      const { tensor, scale } = PackedOperand.of(gpu, x, { numbers: "i8" });
      const numbers = new Int8Array(await gpu.readBytes(tensor)), scales = await gpu.read(scale!);
      assertEquals([numbers.length, scales.length], [rows * k, rows]);
      for (let row = 0; row < rows; row++) {
        const of = turned(values.subarray(row * k, (row + 1) * k)),
          most = of.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
        assert(Math.abs(scales[row]! / (most / 127) - 1) < 2e-7);
        of.forEach((v, i) => assert(Math.abs(numbers[row * k + i]! - 127 * v / most) <= 0.50001, `${row} ${i}`));
      }
    }
  });
}

// Fewer vec4s than threads, more, and more than threads hold.
for (const k of [16, 640, 6416]) {
  testVariants(`layer norms of ${k} channels are quantised as they are written`, async ({ gpu: float }) => {
    const gpu = new Gpu(float.device, { ...float.settings, int8: true }), [batch, tokens] = [2, 35];
    const x = gpu.upload(randn(batch * tokens * k, k, 3), [batch, tokens, k]);
    const table = gpu.upload(randn(batch * 2 * k, 2), [batch, 2, k]),
      vector = (index: number) => ({ tensor: table, index });
    const next = gpu.tensor([4, k], "i8");
    const affine = [
      undefined,
      { weight: table.rows(0, 1).reshape([2 * k]).rows(0, k), bias: gpu.upload(randn(k, 4), [k]) },
      { scale: vector(1), shift: vector(0) },
    ] as const;
    for (const after of affine) {
      const made = layerNormInto(gpu, x, 1e-6, after, next) as PackedOperand;
      const expected = PackedOperand.of(gpu, layerNorm(gpu, x, 1e-6, after), made.form);
      const [ours, theirs] = [await gpu.read(made.scale!), await gpu.read(expected.scale!)];
      assertClose(ours, theirs, 1e-6);
      const read = async (operand: PackedOperand) => [...new Int8Array(await gpu.readBytes(operand.tensor))];
      const numbers = await read(expected), off = (await read(made)).filter((q, i) => q !== numbers[i]);
      // What lies between two integers may become either.
      assert(off.length <= numbers.length / 1000, `${off.length} of ${numbers.length} differ`);
      assert((await read(made)).every((q, i) => Math.abs(q - numbers[i]!) <= 1));
    }
  });
}

testVariants("rows of zeros, of tiny numbers, and with numbers that are not finite", async ({ gpu }) => {
  const k = 1028, x = randn(7 * k, 1);
  x.fill(0, 0, k);
  x[k + 700] = NaN;
  x[2 * k + 1027] = -Infinity;
  x.fill(1e-38, 3 * k, 4 * k);
  x.subarray(4 * k, 5 * k).forEach((v, i, row) => row[i] = v * 1e30);
  x.subarray(5 * k, 6 * k).forEach((v, i, row) => row[i] = v * 1e-25);
  const { tensor, scale } = PackedOperand.of(gpu, gpu.upload(x, [7, k]), { numbers: "i8" });
  const numbers = new Int8Array(await gpu.readBytes(tensor)), scales = await gpu.read(scale!);
  assertEquals([...scales].map(Number.isFinite), [true, false, false, true, true, true, true]);
  assertEquals(scales[0], 0);
  for (const row of [0, 3]) assert(numbers.subarray(row * k, (row + 1) * k).every((q) => q === 0));
  for (const row of [4, 5, 6]) {
    turned(x.subarray(row * k, (row + 1) * k)).forEach((v, i) =>
      assert(Math.abs(numbers[row * k + i]! - v / scales[row]!) <= 0.501)
    );
  }
});
