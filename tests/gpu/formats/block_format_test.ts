import { blockFormat } from "../../../gpu/formats/block_format.ts";
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
import { productVariants } from "../../product_variants.ts";

/** As GGUF's Q8_0 is stored: the scale of 32 integers in f16, then the integers. Blocks start within words. */
const q8 = blockFormat({
  name: "test_q8_0",
  blockElements: 32,
  blockBytes: 34,
  element: "u32",
  four: (buffer) =>
    `  let block = i / 8u * 34u;
  let scale = unpack2x16float(${buffer}[block / 4u] >> (block % 4u * 8u)).x;
  let at = block + 2u + i % 8u * 4u;
  var word = ${buffer}[at / 4u];
  if (at % 4u != 0u) { word = (word >> 16u) | (${buffer}[at / 4u + 1u] << 16u); }
  return scale * vec4f((vec4i(vec4u(word << 24u, word << 16u, word << 8u, word))) >> vec4u(24u));`,
});

/** Numbers as they are stored, and what is stored. */
function quantised(values: Float32Array): { readonly bytes: Uint8Array; readonly values: Float32Array } {
  const bytes = new Uint8Array(values.length / 32 * 34), rounded = new Float32Array(values.length);
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < values.length / 32; block++) {
    const part = values.subarray(32 * block, 32 * (block + 1));
    const scale = Math.f16round(part.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / 127);
    view.setFloat16(34 * block, scale, true);
    for (const [i, v] of part.entries()) {
      const integer = Math.max(-127, Math.min(127, Math.round(v / scale)));
      view.setInt8(34 * block + 2 + i, integer);
      rounded[32 * block + i] = integer * scale + 0; // not -0
    }
  }
  return { bytes, values: rounded };
}

function weightOf(gpu: Gpu, n: number, k: number) {
  const { bytes, values } = quantised(randn(n * k, 2));
  return { w: gpu.upload(bytes, [n, k], q8), values };
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
    // In blocks of 8 rows and 8 columns, the first block has the first eight numbers of eight rows.
    const packed = new Float16Array(
      await gpu.readBytes(PackedOperand.of(gpu, w, { numbers: "f16", panel: { rows: 8, depth: 1 } }).tensor),
    );
    const first = Array.from({ length: 8 }, (_, row) => [...values.subarray(row * k, row * k + 8)]).flat();
    assertEquals(packed.slice(0, 64), Float16Array.from(first));

    const x = gpu.upload(randn(k, 1), [1, k]), part = w.rows(128, 128);
    assertEquals(part.offset, 128 * 3 * 34);
    assertEquals((await gpu.read(linear(gpu, x, part))).length, 128);
    assert(w.matrixFormat === q8);
    assertThrows(() => linear(gpu, gpu.tensor([1, 48]), gpu.tensor([4, 48], q8)), Error, "does not fit");
  },
);
