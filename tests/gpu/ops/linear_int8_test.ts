/** Products by weights in `i8` on a device that computes them in int8. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Gpu } from "../../../gpu/gpu.ts";
import type { Int8Tile } from "../../../gpu/kernels/gemm/int8_tiled.ts";
import { type Int8Variant, PLAIN_INT8 } from "../../../gpu/kernels/gemm/int8_variants.ts";
import { GEMM_INT8 } from "../../../gpu/ops/gemm.ts";
import { layerNorm, layerNormInto } from "../../../gpu/ops/layer_norm.ts";
import { linear, linearInto } from "../../../gpu/ops/linear.ts";
import { PackedOperand } from "../../../gpu/ops/packed_operand.ts";
import { sharedInput, sharedWeight } from "../../../gpu/ops/shared_operands.ts";
import { assertClose, randn, testVariants, turned, type Variant } from "../../gpu.ts";
import { smallPanels } from "../../product_variants.ts";
import { gelu } from "../../gradients.ts";

const INT8 = { numbers: "i8" } as const;

/** Tiles that a software renderer compiles in seconds, with all that tiles do. */
const SMALL_TILES: readonly Int8Tile[] = [
  { threads: [8, 4], outputs: [4, 4], depth: 16, ahead: true },
  { threads: [8, 8], outputs: [4, 8], depth: 32, ahead: false },
  { threads: [16, 4], outputs: [8, 4], depth: 64, ahead: true },
  { threads: [8, 8], outputs: [4, 8], depth: 32, ahead: true, packed: true },
  { threads: [8, 4], outputs: [4, 4], depth: 64, ahead: false, packed: true },
];

const opened = new Map<Variant["name"], Gpu>();

/** The device of a variant, with int8. */
function withInt8({ name, gpu }: Variant): Gpu {
  const known = opened.get(name);
  if (known) return known;
  const int8 = new Gpu(gpu.device, { ...gpu.settings, int8: true });
  int8.poison = true;
  opened.set(name, int8);
  return int8;
}

/** The ways to compute that a device has, by name. */
function ways(variant: Variant, gpu: Gpu): ReadonlyMap<string, Int8Variant> {
  const { name, hardware } = variant, family = [...GEMM_INT8.variants(gpu)];
  const small = SMALL_TILES.map((tile): [string, Int8Variant] => [
    JSON.stringify(tile),
    { by: "dot products", tile },
  ]);
  return new Map([
    ["plain", PLAIN_INT8],
    ...name === "plain" ? [] : hardware ? family : [...small, ...smallPanels(variant, "i8")],
  ]);
}

/** An operand in int8: on the GPU, its integers, its scales. */
async function operand(gpu: Gpu, rows: number, k: number, seed: number) {
  const x = gpu.upload(randn(rows * k, seed), [rows, k]), packed = PackedOperand.of(gpu, x, INT8);
  const integers = new Int8Array(await gpu.readBytes(packed.tensor)), scales = await gpu.read(packed.scale!);
  return { x, packed, integers, scales };
}

/** Products of rows in float64. */
function floats(x: ArrayLike<number>, w: Int8Array, k: number): Float64Array {
  const m = x.length / k, n = w.length / k;
  return Float64Array.from({ length: m * n }, (_, at) => {
    const row = Math.floor(at / n) * k, column = at % n * k;
    let sum = 0;
    for (let i = 0; i < k; i++) sum += x[row + i]! * w[column + i]!;
    return sum;
  });
}

// One row or column; sizes that are no multiples of a tile; sizes that only the plain kernel takes; large sums.
for (const [m, n, k] of [[1, 1, 4], [70, 131, 20], [67, 36, 80], [130, 140, 48], [3, 4, 8960]] as const) {
  testVariants(`products in int8 of ${m}x${n}x${k} have exact sums, however they are computed`, async (variant) => {
    const gpu = withInt8(variant), x = await operand(gpu, m, k, 1), w = await operand(gpu, n, k, 2);
    // f32 holds sums up to 2^24.
    const expected = Float32Array.from(
      floats(x.integers, w.integers, k),
      (sum, at) => Math.fround(sum) * x.scales[Math.floor(at / n)]!,
    );
    for (const [name, way] of ways(variant, gpu)) {
      if (way.tile && (n % 4 !== 0 || k % 16 !== 0)) continue;
      const y = linear(gpu, x.packed, w.packed.tensor, { variant: way });
      assertEquals(await gpu.read(y), expected, name);
    }
  });
}

testVariants("a layer in int8 does all that a layer does, up to rounding to 8 bits", async (variant) => {
  const [m, n, k] = [131, 268, 80], gpu = withInt8(variant);
  const data = randn(m * k, 3), x = gpu.upload(data, [m, k]), w = await operand(gpu, n, k, 4);
  const b = randn(n, 5), r = randn(m * n, 6), g = randn(2 * n, 7);
  const scale = w.packed.scale!, bias = gpu.upload(b, [n]), residual = gpu.upload(r, [m, n]);
  const gate = { tensor: gpu.upload(g, [1, 2, n]), index: 1 };
  const options = { scale, bias, residual, gate, activation: "gelu_tanh" } as const;
  const expected = floats(turned(data), w.integers, k).map((sum, at) =>
    r[at]! + g[n + at % n]! * gelu(sum * w.scales[at % n]! + b[at % n]!)
  );
  const y = await gpu.read(linear(gpu, x, w.packed.tensor, options));
  assertClose(y, expected, 8e-3);
  const input = sharedInput(gpu, x, w.packed.tensor), weight = sharedWeight(gpu, w.packed.tensor, m);
  assert(input instanceof PackedOperand);
  assertEquals(await gpu.read(linear(gpu, input, weight, options)), y, "shared");
  // Some of the rows.
  const later = linear(gpu, input.rows(64, m - 64), weight, { scale, bias });
  assertEquals(await gpu.read(later), (await gpu.read(linear(gpu, x, weight, { scale, bias }))).subarray(64 * n));
  // A weight in parts.
  Object.defineProperty(gpu, "maxTensorBytes", { configurable: true, get: () => 256 * k });
  try {
    assertEquals(await gpu.read(linear(gpu, input, w.packed.tensor, options)), y, "in parts");
  } finally {
    delete (gpu as { maxTensorBytes?: number }).maxTensorBytes;
  }
});

testVariants("inputs of products in int8 are handed on quantised", async (variant) => {
  const [m, n, k] = [66, 48, 32], gpu = withInt8(variant);
  const data = randn(m * k, 8), x = gpu.upload(data, [1, m, k]);
  const up = await operand(gpu, n, k, 9), down = await operand(gpu, 20, n, 10);
  const weight = down.packed.tensor, options = { scale: up.packed.scale! };
  const wide = floats(turned(data), up.integers, k).map((v, at) => v * up.scales[at % n]!);
  const handed = linearInto(gpu, x, up.packed.tensor, weight, options);
  assert(handed instanceof PackedOperand && handed.source === undefined);
  assertClose(await gpu.read(linear(gpu, handed, weight)), floats(turned(wide), down.integers, n), 1e-2);
  const norm = layerNormInto(gpu, x, 1e-6, undefined, up.packed.tensor);
  assert(norm instanceof PackedOperand);
  const normed = linear(gpu, layerNorm(gpu, x, 1e-6), up.packed.tensor);
  assertClose(await gpu.read(linear(gpu, norm, up.packed.tensor)), await gpu.read(normed), 1e-6);
  // A number that is not finite shows in its row alone.
  gpu.write(x, Float32Array.of(NaN), 4 * 3 * k);
  const { scale } = linearInto(gpu, x, up.packed.tensor, weight, options) as PackedOperand;
  const shown = [...await gpu.read(scale!)].flatMap((v, row) => Number.isFinite(v) ? [] : [row]);
  assertEquals(shown, [3]);
  // Only products in int8 take it.
  const exact = gpu.upload(randn(4 * n, 11), [4, n]);
  assertThrows(() => linear(gpu, handed, exact), Error, "takes no i8");
});

testVariants("few rows, and devices without int8, multiply by the decoded weights", async (variant) => {
  const [m, n, k] = [66, 20, 48], int8 = withInt8(variant), { bound } = variant;
  const data = randn(m * k, 12), w = await operand(int8, n, k, 13);
  const expected = floats(turned(data), w.integers, k).map((sum, at) => sum * w.scales[at % n]!);
  for (const [gpu, rows, exact] of [[int8, 3, true], [int8, m, false], [variant.gpu, m, true]] as const) {
    const x = gpu.upload(data.subarray(0, rows * k), [rows, k]);
    const y = await gpu.read(linear(gpu, x, w.packed.tensor, { scale: w.packed.scale! }));
    const error = Math.sqrt(
      y.reduce((sum, v, at) => sum + (v - expected[at]!) ** 2, 0) / y.reduce((sum, v) => sum + v * v, 0),
    );
    assertEquals(error <= bound, exact, `${rows} rows: ${error}`);
  }
  // A number that is not finite shows.
  data[5] = NaN;
  const y = await int8.read(linear(int8, int8.upload(data, [m, k]), w.packed.tensor));
  assertEquals(y.map((v) => Number(Number.isNaN(v))).indexOf(0), n);
});
