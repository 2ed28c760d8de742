import { activation } from "../../../gpu/ops/activation.ts";
import { combine } from "../../../gpu/ops/combine.ts";
import { gated } from "../../../gpu/ops/gated.ts";
import { layerNorm, type LayerNormAffine } from "../../../gpu/ops/layer_norm.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { unpatchify } from "../../../gpu/ops/patches.ts";
import { rmsNorm } from "../../../gpu/ops/rms_norm.ts";
import { exactGelu, normalDensity, normalShare } from "../../exact_gelu.ts";
import { assertClose, randn, testVariants, toBf16 } from "../../gpu.ts";
import { differences, gelu, gradientBound, gradientsOnGpu, layerNormRow, linearRow, silu } from "../../gradients.ts";

const quickGelu = (x: number) => x / (1 + Math.exp(-1.702 * x));

/** dy·W in float64. */
function productBack(dy: Float32Array, w: ArrayLike<number>, [m, n, k]: readonly [number, number, number]) {
  const dx = new Float64Array(m * k);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      const d = dy[i * n + j]!;
      for (let l = 0; l < k; l++) dx[i * k + l]! += d * w[j * k + l]!;
    }
  }
  return dx;
}

// The last two are so tall that GPUs take their big tiles.
for (
  const size of [
    [1, 4, 4],
    [3, 8, 4],
    [5, 12, 20],
    [65, 68, 36],
    [70, 24, 260],
    [130, 260, 64],
    [16300, 8, 12],
    [16300, 4, 132],
  ] as const
) {
  const [m, n, k] = size;
  testVariants(`linear ${m}x${n}x${k}, backwards`, async ({ gpu }) => {
    const x = randn(m * k, 1), w = randn(n * k, 2), b = randn(n, 3), dy = randn(m * n, 4);
    const ref = productBack(dy, w, size);
    if (m < 100) assertClose(ref, differences(x, k, dy, (row) => linearRow(row, w, b)), 1e-8, "the reference");
    const input = gpu.upload(x, [m, k]), weight = gpu.upload(w, [n, k]), bias = gpu.upload(b, [n]);
    const [dx] = await gradientsOnGpu(gpu, [input], dy, () => linear(gpu, input, weight, { bias }));
    assertClose(dx!, ref, 2e-6);
  });
}

testVariants("linear with bf16 and f16 weights, backwards; small gradients under f16", async ({ gpu }) => {
  const size = [37, 44, 76] as const, [m, n, k] = size;
  const x = randn(m * k, 1), bf16 = toBf16(randn(n * k, 2)), dy = randn(m * n, 3, 1e-9);
  const f16 = new Float16Array(bf16.values);
  for (
    const [dtype, packed, w] of [["bf16", bf16.packed, bf16.values], ["f16", new Uint8Array(f16.buffer), f16]] as const
  ) {
    const input = gpu.upload(x, [m, k]), weight = gpu.upload(packed, [n, k], dtype);
    const [dx] = await gradientsOnGpu(gpu, [input], dy, () => linear(gpu, input, weight));
    assertClose(dx!, productBack(dy, w, size), 2e-6, dtype);
  }
});

testVariants("linear, backwards, with products in f16 where the tape asks for them", async ({ gpu, bound }) => {
  // Enough rows for large tiles, and a number of outputs that is no multiple of 8, which stays in f32.
  for (const size of [[331, 48, 76], [331, 44, 76]] as const) {
    const [m, n, k] = size, x = randn(m * k, 1), dy = randn(m * n, 3);
    for (const dtype of ["f32", "bf16"] as const) {
      const bf16 = toBf16(randn(n * k, 2)), w = bf16.values;
      const input = gpu.upload(x, [m, k]), weight = gpu.upload(dtype === "f32" ? w : bf16.packed, [n, k], dtype);
      const [dx] = await gradientsOnGpu(gpu, [input], dy, () => linear(gpu, input, weight), "f16");
      assertClose(dx!, productBack(dy, w, size), n % 8 === 0 ? bound : 2e-6, `${size} ${dtype}`);
    }
  }
});

testVariants("a transposed linear is w·x, and its gradient is a linear's", async ({ gpu, bound }) => {
  const [batch, tokens, k, n] = [2, 5, 12, 20], m = batch * tokens;
  const x = randn(m * k, 1), w = randn(k * n, 2), b = randn(n, 3), r = randn(m * n, 4), dy = randn(m * n, 5);
  const flipped = Float32Array.from({ length: k * n }, (_, i) => w[(i % k) * n + Math.floor(i / k)]!);
  const gate = randn(batch * 3 * n, 6);
  const forward = (row: Float64Array, i: number) =>
    linearRow(row, flipped, b).map((v, j) => r[i * n + j]! + silu(v) * gate[(Math.floor(i / tokens) * 3 + 1) * n + j]!);
  const input = gpu.upload(x, [batch, tokens, k]), weight = gpu.upload(w, [k, n]);
  const options = {
    bias: gpu.upload(b, [n]),
    activation: "silu",
    residual: gpu.upload(r, [batch, tokens, n]),
    gate: { tensor: gpu.upload(gate, [batch, 3, n]), index: 1 },
    transposed: true,
  } as const;
  const ref = Array.from({ length: m }, (_, i) => [...forward(Float64Array.from(x.subarray(i * k, (i + 1) * k)), i)]);
  assertClose(await gpu.read(linear(gpu, input, weight, options)), ref.flat(), 2e-6);
  const [dx] = await gradientsOnGpu(gpu, [input], dy, () => linear(gpu, input, weight, options));
  assertClose(dx!, differences(x, k, dy, forward), Math.max(1e-5, bound));
});

for (const [batch, tokens, n, k] of [[2, 7, 20, 12], [1, 1, 4, 8]] as const) {
  testVariants(`linear with activation, gate and residual, backwards: ${batch}x${tokens}`, async (variant) => {
    const { gpu } = variant, m = batch * tokens;
    const x = randn(m * k, 1), w = randn(n * k, 2), b = randn(n, 3), r = randn(m * n, 4), dy = randn(m * n, 5);
    const gates = randn(batch * 6 * n, 6);
    const input = gpu.upload(x, [batch, tokens, k]), weight = gpu.upload(w, [n, k]), bias = gpu.upload(b, [n]);
    // Not the shape of the output: a residual only has its size.
    const residual = gpu.upload(r, [m, n]), gate = { tensor: gpu.upload(gates, [batch, 6, n]), index: 4 };
    for (const [name, act] of [["none", (v: number) => v], ["gelu_tanh", gelu], ["silu", silu]] as const) {
      for (const withGate of [false, true]) {
        const scale = (i: number, j: number) => withGate ? gates[(Math.floor(i / tokens) * 6 + 4) * n + j]! : 1;
        const forward = (row: Float64Array, i: number) =>
          linearRow(row, w, b).map((v, j) => r[i * n + j]! + act(v) * scale(i, j));
        const options = { bias, activation: name, residual, ...(withGate ? { gate } : {}) };
        const run = () => linear(gpu, input, weight, options);
        const [dx, dr] = await gradientsOnGpu(gpu, [input, residual], dy, run);
        const what = `${name}${withGate ? ", gated" : ""}`;
        assertClose(dx!, differences(x, k, dy, forward), gradientBound(variant), what);
        assertClose(dr!, dy, 0, `residual of ${what}`);
      }
    }
  });
}

testVariants("a gate alone, backwards", async ({ gpu }) => {
  const [batch, tokens, dim] = [2, 3, 7], dy = randn(batch * tokens * dim, 3);
  const g = randn(batch * 2 * dim, 2), shape = [batch, tokens, dim];
  const [x, r] = [1, 4].map((seed) => gpu.upload(randn(batch * tokens * dim, seed), shape)) as [never, never];
  const gate = { tensor: gpu.upload(g, [batch, 2, dim]), index: 1 };
  const [dx, dr] = await gradientsOnGpu(gpu, [x, r], dy, () => gated(gpu, x, gate, r));
  assertClose(dx!, dy.map((v, i) => v * g[(Math.floor(i / (tokens * dim)) * 2 + 1) * dim + i % dim]!), 1e-7);
  assertClose(dr!, dy, 0);
});

testVariants("activations, backwards, where they bend and where they do not", async ({ gpu }) => {
  const slopes = {
    gelu_tanh: (x: number) => {
      const c = Math.sqrt(2 / Math.PI), t = Math.tanh(c * (x + 0.044715 * x ** 3));
      return Math.abs(t) === 1 ? (1 + t) / 2 : 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
    },
    silu: (x: number) => 1 / (1 + Math.exp(-x)) + x * Math.exp(-Math.abs(x)) / (1 + Math.exp(-Math.abs(x))) ** 2,
    quick_gelu: (x: number) => slopes.silu(1.702 * x),
    gelu: (x: number) => normalShare(x) + x * normalDensity(x),
  };
  const x = Float32Array.from([...randn(501, 1, 2.5), 0, -0.75, 5.17, -5.17, 5.2, -5.2, 6.5, -6.5, 9, -9]);
  const far = Float32Array.from([30, -30, 88, -88, 100, -100, 1e4, -1e4, 1e13, -1e13, 1e20, -1e20]);
  for (
    const [kind, f] of [["gelu_tanh", gelu], ["silu", silu], ["quick_gelu", quickGelu], ["gelu", exactGelu]] as const
  ) {
    const dy = randn(x.length, 2);
    const ref = Float64Array.from(x, (v, i) => slopes[kind](v) * dy[i]!);
    assertClose(ref, differences(x, 1, dy, (row) => row.map(f)), 1e-8, "the reference");
    const input = gpu.upload(x, [x.length]);
    const [dx] = await gradientsOnGpu(gpu, [input], dy, () => activation(gpu, input, kind));
    assertClose(dx!, ref, 2e-6, kind);
    const distant = gpu.upload(far, [far.length]), ones = new Float32Array(far.length).fill(1);
    const [flat] = await gradientsOnGpu(gpu, [distant], ones, () => activation(gpu, distant, kind));
    assertClose(flat!, far.map((v) => v > 0 ? 1 : 0), 1e-6, `${kind} far out`);
  }
});

for (const [batch, tokens, dim] of [[1, 1, 4], [2, 13, 36], [1, 2, 516]] as const) {
  testVariants(`layer norm ${batch}x${tokens}x${dim}, backwards: plain, affine and adaptive`, async ({ gpu }) => {
    const eps = 1e-6, size = batch * tokens * dim;
    const x = randn(size, 1, 3).map((v) => v + 5), dy = randn(size, 2);
    const w = randn(dim, 3), b = randn(dim, 4), m = randn(batch * 6 * dim, 5);
    const input = gpu.upload(x, [batch, tokens, dim]), mod = gpu.upload(m, [batch, 6, dim]);
    const cases: [string, LayerNormAffine | undefined, (r: number, d: number) => number][] = [
      ["plain", undefined, () => 1],
      ["affine", { weight: gpu.upload(w, [dim]), bias: gpu.upload(b, [dim]) }, (_, d) => w[d]!],
      [
        "adaptive",
        { scale: { tensor: mod, index: 4 }, shift: { tensor: mod, index: 3 } },
        (r, d) => 1 + m[(Math.floor(r / tokens) * 6 + 4) * dim + d]!,
      ],
    ];
    for (const [what, affine, scale] of cases) {
      const [dx] = await gradientsOnGpu(gpu, [input], dy, () => layerNorm(gpu, input, eps, affine));
      // What is added to all rows alike has no part in the gradient.
      const ref = differences(x, dim, dy, (row, r) => layerNormRow(row, eps).map((v, d) => v * scale(r, d)));
      assertClose(dx!, ref, 1e-5, what);
    }
  });
}

for (
  const [batch, tokens, heads, headDim, of, turned] of [
    [1, 1, 1, 4, "tokens", 1],
    [2, 9, 3, 8, "tokens", 9],
    [1, 3, 9, 60, "tokens", 3],
    [2, 9, 3, 8, "heads", 7],
    [1, 3, 2, 516, "heads", 2],
  ] as const
) {
  testVariants(`rms norm ${batch}x${tokens} of ${of}, ${heads} heads of ${headDim}, backwards`, async ({ gpu }) => {
    const eps = 1e-6, dim = heads * headDim, size = batch * tokens * dim, normed = of === "heads" ? headDim : dim;
    const x = randn(size, 1), w = randn(normed, 2), dy = randn(size, 4);
    const angles = randn(turned * headDim / 2, 3, 3);
    const table = new Float32Array(turned * headDim);
    angles.forEach((a, i) => table.set([Math.cos(a), Math.sin(a)], 2 * i));
    const norm = (row: Float64Array) => {
      const rms = Array.from({ length: dim / normed }, (_, i) => {
        const part = row.subarray(i * normed, (i + 1) * normed);
        return Math.sqrt(part.reduce((a, c) => a + c * c, 0) / normed + eps);
      });
      return row.map((v, d) => v / rms[Math.floor(d / normed)]! * w[d % normed]!);
    };
    const rotated = (row: Float64Array, r: number) => {
      const y = norm(row);
      for (let d = 0; d < dim && r % tokens < turned; d += 2) {
        const at = (r % tokens) * headDim + d % headDim, [c, s] = [table[at]!, table[at + 1]!];
        const [a, b] = [y[d]!, y[d + 1]!];
        y.set([a * c - b * s, a * s + b * c], d);
      }
      return y;
    };
    const input = gpu.upload(x, [batch, tokens, dim]), weight = gpu.upload(w, [normed]);
    const rope = { table: gpu.upload(table, [turned, headDim / 2, 2]) };
    const [plain] = await gradientsOnGpu(gpu, [input], dy, () => rmsNorm(gpu, input, weight, eps));
    assertClose(plain!, differences(x, dim, dy, norm), 1e-5);
    const [withRope] = await gradientsOnGpu(gpu, [input], dy, () => rmsNorm(gpu, input, weight, eps, { rope }));
    assertClose(withRope!, differences(x, dim, dy, rotated), 1e-5, "with rope");
  });
}

testVariants("patches put together, backwards", async ({ gpu }) => {
  const shape = [2, 3, 4, 6, 10], patch = [2, 3, 5] as const, tokens = 8, size = 90;
  const dy = randn(2 * tokens * size, 1), ref = new Float32Array(dy.length), first = new Float32Array(dy.length);
  for (let i = 0; i < dy.length; i++) {
    const [w, h, t] = [i % 10, Math.floor(i / 10) % 6, Math.floor(i / 60) % 4];
    const [c, b] = [Math.floor(i / 240) % 3, Math.floor(i / 720)];
    const token = b * tokens + (Math.floor(t / 2) * 2 + Math.floor(h / 3)) * 2 + Math.floor(w / 5);
    const place = ((t % 2) * 3 + h % 3) * 5 + w % 5;
    ref[token * size + place * 3 + c] = dy[i]!;
    first[token * size + c * 30 + place] = dy[i]!;
  }
  const rows = gpu.upload(randn(dy.length, 2), [2, tokens, size]);
  const [dx] = await gradientsOnGpu(gpu, [rows], dy, () => unpatchify(gpu, rows, shape, patch));
  assertClose(dx!, ref, 0);
  const [ofFirst] = await gradientsOnGpu(gpu, [rows], dy, () => unpatchify(gpu, rows, shape, patch, "first"));
  assertClose(ofFirst!, first, 0);
});

testVariants("combine, backwards", async ({ gpu }) => {
  const dy = randn(77, 4), inputs = [1, 2, 3].map((seed) => gpu.upload(randn(77, seed), [7, 11]));
  const [x, y, z] = inputs as [never, never, never];
  const gradients = await gradientsOnGpu(gpu, inputs, dy, () => combine(gpu, [[2, x], [-0.5, y], [1, z]]));
  for (const [i, c] of [2, -0.5, 1].entries()) assertClose(gradients[i]!, dy.map((v) => c * v), 0, `term ${i}`);
});
