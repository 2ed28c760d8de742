import { FORMATS } from "../../../gpu/formats/formats.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { PackedOperand } from "../../../gpu/ops/packed_operand.ts";
import { castInto } from "../../../gpu/ops/cast.ts";
import { GEMM } from "../../../gpu/ops/gemm.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { sharedInput, sharedWeight } from "../../../gpu/ops/shared_operands.ts";
import { matmul } from "../../../gpu/ops/matmul.ts";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { assertClose, exceptPlain, randn, testVariants } from "../../gpu.ts";
import { gradientsOnGpu, linearRow } from "../../gradients.ts";
import { quantisedQ8 } from "../../model/checkpoint/gguf_bytes.ts";
import { productVariants } from "../../product_variants.ts";

function weightOf(gpu: Gpu, n: number, k: number) {
  const { data, values } = quantisedQ8(randn(n * k, 2));
  return { w: gpu.upload(data, [n, k], "q8_0"), values };
}

/** x·wᵀ in float64. */
const product = (x: Float32Array, w: Float32Array, k: number) =>
  Array.from(
    { length: x.length / k },
    (
      _,
      row,
    ) => [...linearRow(Float64Array.from(x.subarray(row * k, (row + 1) * k)), w, new Float32Array(w.length / k))],
  ).flat();

// Of odd counts of blocks, the last word is half full.
for (const [m, n, k] of [[1, 1, 32], [3, 5, 96], [65, 68, 160], [129, 260, 64]] as const) {
  testVariants(`linear ${m}x${n}x${k} by weights in blocks of 34 bytes`, async ({ gpu, bound }) => {
    const x = randn(m * k, 1), { w, values } = weightOf(gpu, n, k), input = gpu.upload(x, [m, k]);
    assertEquals(w.bytes, Math.ceil(n * k / 32 * 34 / 4) * 4);
    const ref = product(x, values, k);
    assertClose(await gpu.read(linear(gpu, input, w)), ref, bound);
    const shared = linear(gpu, sharedInput(gpu, input, w), sharedWeight(gpu, w, m));
    assertClose(await gpu.read(shared), ref, bound, "shared");
  });
}

testVariants("weights in blocks, in every way that an adapter can", async (variant) => {
  const [m, n, k] = [270, 292, 96], { gpu, bound } = variant;
  const x = randn(m * k, 1), { w, values } = weightOf(gpu, n, k), ref = product(x, values, k);
  const input = gpu.upload(x, [m, k]);
  for (const [name, way] of productVariants(variant, GEMM)) {
    assertClose(await gpu.read(linear(gpu, input, w, { variant: way })), ref, bound, name);
  }
}, exceptPlain);

testVariants("weights in blocks, backwards, and by matmul", async ({ gpu }) => {
  const [m, n, k] = [37, 44, 96], x = randn(m * k, 1), { w, values } = weightOf(gpu, n, k), dy = randn(m * n, 3);
  const input = gpu.upload(x, [m, k]);
  const [dx] = await gradientsOnGpu(gpu, [input], dy, () => linear(gpu, input, w));
  const flipped = Float32Array.from({ length: k * n }, (_, i) => values[(i % n) * k + Math.floor(i / n)]!);
  assertClose(dx!, product(dy, flipped, n), 2e-6);
  const y = matmul(gpu, input.reshape([1, m, k]), w.reshape([1, n, k]), { transposeB: true });
  assertClose(await gpu.read(y), product(x, values, k), 2e-6);
});

testVariants(
  "weights in blocks are cast to f16, also where matrix units read it, and cut into rows",
  async ({ gpu }) => {
    const [n, k] = [256, 96], { w, values } = weightOf(gpu, n, k), f16 = gpu.tensor([n, k], "f16");
    castInto(gpu, w, f16, gpu.clampCounter("q8"));
    assertEquals(new Float16Array(await gpu.readBytes(f16)), Float16Array.from(values));
    // In panels of 8 rows and 8 columns, the first panel has the first eight numbers of eight rows.
    const packed = new Float16Array(
      await gpu.readBytes(PackedOperand.of(gpu, w, { numbers: "f16", panel: { rows: 8, height: 8, depth: 1 } }).tensor),
    );
    const first = Array.from({ length: 8 }, (_, row) => [...values.subarray(row * k, row * k + 8)]).flat();
    assertEquals(packed.slice(0, 64), Float16Array.from(first));

    const x = gpu.upload(randn(k, 1), [1, k]), part = w.rows(128, 128);
    assertEquals(part.offset, 128 * 3 * 34);
    assertEquals((await gpu.read(linear(gpu, x, part))).length, 128);
    assert(w.matrixFormat === FORMATS.q8_0);
    assertThrows(() => linear(gpu, gpu.tensor([1, 48]), gpu.tensor([4, 48], "q8_0")), Error, "does not fit");
  },
);
