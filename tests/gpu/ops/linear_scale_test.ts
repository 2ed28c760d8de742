import { assertThrows } from "@std/assert";
import { blockFormat } from "../../../gpu/formats/block_format.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { castInto } from "../../../gpu/ops/cast.ts";
import { linear, linearInto } from "../../../gpu/ops/linear.ts";
import { sharedInput, sharedWeight } from "../../../gpu/ops/shared_operands.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { gelu, gradientsOnGpu, linearRow } from "../../gradients.ts";
import { gemmVariants } from "../../product_variants.ts";

/** Integers of 8 bits, which mean nothing without the scales of rows. */
const int8 = blockFormat({
  ...{ name: "test_int8", blockElements: 1, blockBytes: 1, element: "u32" },
  four: (buffer) => `  return vec4f((vec4i(vec4u(${buffer}[i])) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));`,
});

/** A quantised matrix: on the GPU, and the numbers that it stands for. */
function quantised(gpu: Gpu, n: number, k: number) {
  const integers = Int8Array.from(randn(n * k, 2, 40), (v) => Math.max(-127, Math.min(127, Math.round(v))));
  const scales = randn(n, 3, 0.02);
  return {
    w: gpu.upload(new Uint8Array(integers.buffer), [n, k], int8),
    scale: gpu.upload(scales, [n]),
    values: Float64Array.from(integers, (v, i) => v * scales[Math.floor(i / k)]!),
  };
}

const flipped = (w: Float64Array, n: number, k: number) =>
  Float64Array.from({ length: n * k }, (_, i) => w[(i % n) * k + Math.floor(i / n)]!);

/** x·wᵀ + b in float64. */
function product(x: Float32Array, w: ArrayLike<number>, k: number, b: ArrayLike<number>): number[] {
  const rows = Array.from({ length: x.length / k }, (_, i) => Float64Array.from(x.subarray(i * k, (i + 1) * k)));
  return rows.flatMap((row) => [...linearRow(row, w, b)]);
}

// One row, one column, and sizes that are no multiples of any tile.
for (const [m, n, k] of [[1, 1, 4], [1, 260, 104], [3, 5, 20], [67, 300, 108], [131, 268, 72]] as const) {
  testVariants(`linear ${m}x${n}x${k} by a weight with scales`, async ({ gpu, bound }) => {
    const { w, scale, values } = quantised(gpu, n, k), x = randn(m * k, 1), b = randn(n, 4), r = randn(m * n, 5);
    const input = gpu.upload(x, [m, k]), bias = gpu.upload(b, [n]), residual = gpu.upload(r, [m, n]);
    const ref = product(x, values, k, b);
    assertClose(await gpu.read(linear(gpu, input, w, { scale, bias })), ref, bound);
    const all = { scale, bias, residual, activation: "gelu_tanh" } as const;
    const y = linear(gpu, sharedInput(gpu, input, w), sharedWeight(gpu, w, m), all);
    assertClose(
      await gpu.read(y),
      ref.map((v, i) => r[i]! + gelu(v)),
      Math.max(1e-5, bound),
      "shared, with an activation",
    );

    if (n % 4 !== 0) return;
    const [dx] = await gradientsOnGpu(gpu, [input], r, () => linear(gpu, input, w, { scale, bias }));
    const none = new Float32Array(k);
    assertClose(dx!, product(r, flipped(values, n, k), n, none), 2e-6, "backwards");
  });
}

testVariants("weights with scales, in every way that an adapter can", async (variant) => {
  const [m, n, k] = [270, 292, 104], { gpu, bound } = variant;
  const { w, scale, values } = quantised(gpu, n, k), x = randn(m * k, 1), b = randn(n, 4);
  const input = gpu.upload(x, [m, k]), bias = gpu.upload(b, [n]), ref = product(x, values, k, b);
  for (const [name, way] of gemmVariants(variant)) {
    assertClose(await gpu.read(linear(gpu, input, w, { scale, bias, variant: way })), ref, bound, name);
  }
  const next = gpu.upload(randn(8 * n, 6), [8, n]);
  const handed = linear(gpu, linearInto(gpu, input, w, next, { scale, bias }), next);
  assertClose(await gpu.read(handed), await gpu.read(linear(gpu, linear(gpu, input, w, { scale, bias }), next)), bound);
});

testVariants("sums that f16 cannot hold are multiplied by scales that make them small", async (variant) => {
  const [m, n, k] = [64, 64, 64], { gpu, bound } = variant;
  const input = gpu.upload(new Float32Array(m * k).fill(60), [m, k]), scale = gpu.upload(randn(n, 1, 1e-4), [n]);
  const w = gpu.upload(new Uint8Array(n * k).fill(0x7e), [n, k], "f8_e4m3"); // 448, its largest number
  const scales = await gpu.read(scale), ref = Array.from({ length: m * n }, (_, i) => 60 * 448 * k * scales[i % n]!);
  for (const [name, way] of gemmVariants(variant)) {
    assertClose(await gpu.read(linear(gpu, input, w, { scale, variant: way })), ref, bound, name);
  }
  assertClose(await gpu.read(linear(gpu, input, w, { scale })), ref, bound);
});

testVariants("a scale survives activation and gate on a tape, and a transposed product", async ({ gpu, bound }) => {
  const [m, n, k] = [7, 12, 20], { w, scale, values } = quantised(gpu, n, k);
  const x = randn(m * k, 1), g = randn(n, 4), dy = randn(m * n, 5), none = new Float32Array(n);
  const input = gpu.upload(x, [m, k]), gate = { tensor: gpu.upload(g, [1, n]), index: 0 };
  const [dx] = await gradientsOnGpu(
    gpu,
    [input],
    dy,
    () => linear(gpu, input, w, { scale, gate, activation: "gelu_tanh" }),
  );
  // Central differences of gelu in float64.
  const before = product(x, values, k, none), step = 1e-5;
  const slopes = before.map((v) => (gelu(v + step) - gelu(v - step)) / (2 * step));
  const inner = Float32Array.from(dy, (d, i) => d * g[i % n]! * slopes[i]!);
  assertClose(dx!, product(inner, flipped(values, n, k), n, new Float32Array(k)), Math.max(1e-5, bound));

  // The gradient of a transposed product is a product with the scale.
  const out = gpu.upload(dy, [m, n]), back = randn(m * k, 6);
  const [dOut] = await gradientsOnGpu(gpu, [out], back, () => linear(gpu, out, w, { scale, transposed: true }));
  assertClose(dOut!, product(back, values, k, none), bound);
});

testVariants("a cast multiplies rows by their scales, then adds", async ({ gpu }) => {
  // An odd length: a word of two numbers may belong to two rows.
  const [n, k] = [9, 7], { w, scale, values } = quantised(gpu, n, k), more = randn(n * k, 4);
  const added = gpu.upload(more, [n, k]);
  for (const [format, bound] of [["f32", 1e-7], ["f16", 2 ** -11], ["bf16", 2 ** -8]] as const) {
    const y = gpu.tensor([n, k], format), f32 = gpu.tensor([n, k]);
    castInto(gpu, w, y, gpu.clampCounter("scales"), { scale });
    castInto(gpu, y, f32, gpu.clampCounter("scales"));
    assertClose(await gpu.read(f32), values, bound, format);
    castInto(gpu, w, y, gpu.clampCounter("scales"), { scale, added });
    castInto(gpu, y, f32, gpu.clampCounter("scales"));
    assertClose(await gpu.read(f32), values.map((v, i) => v + more[i]!), bound, `${format}, added`);
  }
  assertThrows(() => castInto(gpu, w, gpu.tensor([n, k]), 0, { scale: added }), Error, "by [9,7]");
});
