import { attention } from "../../../gpu/ops/attention.ts";
import { activation } from "../../../gpu/ops/activation.ts";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../../gpu/device/dry.ts";
import { PackedOperand } from "../../../gpu/ops/packed_operand.ts";
import { combine } from "../../../gpu/ops/combine.ts";
import { layerNorm, layerNormInto } from "../../../gpu/ops/layer_norm.ts";
import { sharedForms } from "../../../gpu/ops/gemm.ts";
import { linear, linearInto } from "../../../gpu/ops/linear.ts";
import { sharedInput, sharedWeight } from "../../../gpu/ops/shared_operands.ts";
import { modulation } from "../../../gpu/ops/modulation.ts";
import { patchify, unpatchify } from "../../../gpu/ops/patches.ts";
import { rmsNorm } from "../../../gpu/ops/rms_norm.ts";
import { noise } from "../../../gpu/tuning/noise.ts";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { exactGelu } from "../../exact_gelu.ts";
import { assertClose, exceptPlain, randn, testVariants, toBf16 } from "../../gpu.ts";
import { gemmVariants } from "../../product_variants.ts";

const gelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const silu = (x: number) => x / (1 + Math.exp(-x)), quickGelu = (x: number) => silu(1.702 * x) / 1.702;

/** x·wᵀ + b in float64. */
function linearReference(x: Float32Array, w: Float32Array, b: Float32Array, k: number): Float64Array {
  const m = x.length / k, n = b.length, y = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let s = b[j]!;
      for (let l = 0; l < k; l++) s += x[i * k + l]! * w[j * k + l]!;
      y[i * n + j] = s;
    }
  }
  return y;
}

// An odd number of columns is for plain kernels everywhere, a k that is no multiple of 8 not for matrix units.
for (
  const [m, n, k] of [[1, 1, 4], [3, 5, 8], [65, 67, 36], [1, 4, 8], [65, 68, 36], [200, 24, 264], [
    129,
    260,
    64,
  ]] as const
) {
  testVariants(`linear ${m}x${n}x${k}`, async ({ gpu, bound }) => {
    const x = randn(m * k, 1), w = randn(n * k, 2), b = randn(n, 3);
    const ref = linearReference(x, w, b, k);
    const y = linear(gpu, gpu.upload(x, [m, k]), gpu.upload(w, [n, k]), { bias: gpu.upload(b, [n]) });
    assertClose(await gpu.read(y), ref, bound);
  });
}

testVariants("linear in every way that an adapter can", async (variant) => {
  const [m, n, k] = [270, 292, 72], { gpu, bound } = variant;
  const x = randn(m * k, 1), w = randn(n * k, 2), b = randn(n, 3), ref = linearReference(x, w, b, k);
  const operands = [gpu.upload(x, [m, k]), gpu.upload(w, [n, k])] as const, bias = gpu.upload(b, [n]);
  for (const [name, way] of gemmVariants(variant)) {
    assertClose(await gpu.read(linear(gpu, ...operands, { bias, variant: way })), ref, bound, name);
  }
}, exceptPlain);

testVariants("noise has numbers of both signs within 1, in either format and any length", async ({ gpu }) => {
  for (const shape of [[3, 5], [70000]]) {
    const x = noise(gpu, shape), numbers = await gpu.read(x);
    assert(numbers.every((v) => Math.abs(v) <= 1) && numbers.some((v) => v < -0.5) && numbers.some((v) => v > 0.5));
    const bf16 = new Uint16Array(await gpu.readBytes(noise(gpu, shape, "bf16"))).subarray(0, numbers.length);
    assertEquals(bf16, new Uint16Array(new Uint32Array(numbers.buffer).map((bits) => bits >>> 16)));
  }
});

testVariants("linear takes activations that f16 cannot hold as the largest that it can", async ({ gpu }) => {
  const [m, n, k] = [3, 4, 8], x = new Float32Array(m * k).fill(1), w = new Float32Array(n * k).fill(1);
  x[0] = 1e6;
  x[k] = -1e6;
  const y = await gpu.read(linear(gpu, gpu.upload(x, [m, k]), gpu.upload(w, [n, k])));
  const far = gpu.f16 ? 65504 : 1e6;
  assertClose(y, [far + 7, 7 - far, 8].flatMap((v) => Array(n).fill(v)), 1e-6);
});

testVariants(
  "linear layers one after the other give the same whatever form operands are handed on in",
  async ({ gpu }) => {
    // So many tiles that matrix units take them in blocks, which neither the rows nor the columns fill.
    const [m, k, wide, n] = [1900, 72, 1400, 1400];
    const x = gpu.upload(randn(m * k, 1), [m, k]),
      up = noise(gpu, [wide, k], "bf16"),
      down = noise(gpu, [n, wide], "bf16");
    const bias = gpu.upload(randn(wide, 2), [wide]), residual = gpu.upload(randn(m * n, 3), [m, n]);
    const expected = await gpu.read(
      linear(gpu, linear(gpu, x, up, { bias, activation: "gelu_tanh" }), down, { residual }),
    );
    const shared = { x: sharedInput(gpu, x, up), up: sharedWeight(gpu, up, m), down: sharedWeight(gpu, down, m) };
    const widened = linearInto(gpu, shared.x, shared.up, shared.down, { bias, activation: "gelu_tanh" });
    assertEquals(
      [shared.x, shared.up, shared.down, widened].map((operand) => operand instanceof PackedOperand),
      Array(4).fill(gpu.matrixUnits !== undefined),
    );
    assertEquals(await gpu.read(linear(gpu, widened, shared.down, { residual })), expected);
    // Fewer rows are made in another way, for which they are packed anew.
    const few = gpu.upload(randn(3 * k, 4), [3, k]);
    assertEquals(await gpu.read(linear(gpu, few, shared.up)), await gpu.read(linear(gpu, few, up)));
  },
);

testVariants("linear with bf16 and f16 weights, activation, gate and residual", async ({ gpu, bound }) => {
  const [batch, tokens, k, n] = [2, 37, 56, 44], m = batch * tokens;
  const x = randn(m * k, 1), bf16 = toBf16(randn(n * k, 2)), b = randn(n, 3), r = randn(m * n, 4);
  const gate = randn(batch * 6 * n, 5);
  const f16 = new Float16Array(bf16.values);
  for (
    const [dtype, packed, w] of [["bf16", bf16.packed, bf16.values], ["f16", new Uint8Array(f16.buffer), f16]] as const
  ) {
    for (
      const [name, act] of [["gelu_tanh", gelu], ["silu", silu], ["quick_gelu", quickGelu], ["gelu", exactGelu], [
        "none",
        (v: number) => v,
      ]] as const
    ) {
      const ref = new Float64Array(m * n);
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          let s = b[j]!;
          for (let l = 0; l < k; l++) s += x[i * k + l]! * w[j * k + l]!;
          ref[i * n + j] = r[i * n + j]! + act(s) * gate[(Math.floor(i / tokens) * 6 + 2) * n + j]!;
        }
      }
      const y = linear(gpu, gpu.upload(x, [batch, tokens, k]), gpu.upload(packed, [n, k], dtype), {
        bias: gpu.upload(b, [n]),
        activation: name,
        residual: gpu.upload(r, [m, n]),
        gate: { tensor: gpu.upload(gate, [batch, 6, n]), index: 2 },
      });
      assertClose(await gpu.read(y), ref, bound, `${dtype} ${name}`);
    }
  }
});

testVariants("linear keeps operands in f32 where it is told to: they may be too large for f16", async ({ gpu }) => {
  const [m, n, k] = [5, 7, 12], x = randn(m * k, 1, 1e5), w = randn(n * k, 2);
  const ref = Float64Array.from({ length: m * n }, (_, i) => {
    let s = 0;
    for (let l = 0; l < k; l++) s += x[Math.floor(i / n) * k + l]! * w[(i % n) * k + l]!;
    return s;
  });
  const y = linear(gpu, gpu.upload(x, [m, k]), gpu.upload(w, [n, k]), { precision: "f32" });
  assertClose(await gpu.read(y), ref, 2e-6);
});

/** softmax(scale·qkᵀ + bias)v in float64. */
function attentionReference(
  [q, k, v]: readonly Float32Array[],
  [batch, heads, queries, keys, headDim]: readonly number[],
  { scale, bias, lengths }: { scale: number; bias?: Float32Array; lengths?: readonly number[] },
): Float64Array {
  const [B, H, N, M, D] = [batch!, heads!, queries!, keys!, headDim!];
  const y = new Float64Array(B * N * H * D);
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      for (let i = 0; i < N; i++) {
        const live = lengths?.[b] ?? M;
        const scores = Array.from({ length: live }, (_, j) => {
          let s = 0;
          for (let d = 0; d < D; d++) s += q![((b * N + i) * H + h) * D + d]! * k![((b * M + j) * H + h) * D + d]!;
          return s * scale + (bias ? bias[(h * N + i) * M + j]! : 0);
        });
        const top = Math.max(...scores), e = scores.map((s) => Math.exp(s - top));
        const total = e.reduce((a, c) => a + c, 0);
        for (let d = 0; d < D; d++) {
          let s = 0;
          for (let j = 0; j < live; j++) s += e[j]! * v![((b * M + j) * H + h) * D + d]!;
          y[((b * N + i) * H + h) * D + d] = s / total;
        }
      }
    }
  }
  return y;
}

for (
  const [batch, heads, queries, keys, headDim] of [
    [1, 1, 1, 1, 32],
    [2, 3, 70, 65, 32],
    [1, 2, 64, 130, 64],
    [1, 2, 131, 33, 128],
    [2, 1, 5, 3, 16],
  ] as const
) {
  testVariants(
    `attention ${batch}x${heads}, ${queries} queries, ${keys} keys of ${headDim}`,
    async ({ gpu, bound }) => {
      const sizes = [batch, heads, queries, keys, headDim], dim = heads * headDim;
      const q = randn(batch * queries * dim, 1, 2), k = randn(batch * keys * dim, 2), v = randn(batch * keys * dim, 3);
      const upload = (x: Float32Array, n: number) => gpu.upload(x, [batch, n, dim]);
      const y = attention(gpu, upload(q, queries), upload(k, keys), upload(v, keys), { heads });
      const ref = attentionReference([q, k, v], sizes, { scale: headDim ** -0.5 });
      assertClose(await gpu.read(y), ref, 2 * bound);
    },
  );
}

testVariants("attention with a bias, a scale and key lengths", async ({ gpu, bound }) => {
  const [batch, heads, queries, keys, headDim] = [2, 2, 37, 71, 64], dim = heads * headDim;
  const q = randn(batch * queries * dim, 1, 0.2), k = randn(batch * keys * dim, 2), v = randn(batch * keys * dim, 3);
  const bias = randn(heads * queries * keys, 4), lengths = [1, 66];
  const y = attention(
    gpu,
    gpu.upload(q, [batch, queries, dim]),
    gpu.upload(k, [batch, keys, dim]),
    gpu.upload(v, [batch, keys, dim]),
    {
      heads,
      scale: 1,
      bias: gpu.upload(bias, [heads, queries, keys]),
      keyLengths: gpu.upload(Uint32Array.from(lengths), [2], "u32"),
    },
  );
  const ref = attentionReference([q, k, v], [batch, heads, queries, keys, headDim], { scale: 1, bias, lengths });
  assertClose(await gpu.read(y), ref, 2 * bound);
});

testVariants("attention survives scores of thousands", async ({ gpu, bound }) => {
  const [n, dim] = [40, 32];
  const q = randn(n * dim, 1, 60), k = randn(n * dim, 2, 60), v = randn(n * dim, 3);
  const y = attention(gpu, gpu.upload(q, [1, n, dim]), gpu.upload(k, [1, n, dim]), gpu.upload(v, [1, n, dim]), {
    heads: 1,
  });
  const ref = attentionReference([q, k, v], [1, 1, n, n, dim], { scale: dim ** -0.5 });
  // Scores are rounded to 1 in 2^24 of thousands before they are exponentiated.
  assertClose(await gpu.read(y), ref, bound * 1000);
});

testVariants("layer norm, plain, affine and adaptive", async ({ gpu }) => {
  // Rows of which a workgroup has several, longer ones, and one longer than it holds.
  for (const dim of [36, 200, 256, 1540, 6400]) {
    const [batch, tokens, eps] = [2, 13, 1e-6], rows = batch * tokens;
    const x = randn(rows * dim, 1, 3).map((v) => v + 5), w = randn(dim, 2), b = randn(dim, 3);
    const m = randn(batch * 6 * dim, 4);
    const norm = new Float64Array(rows * dim);
    for (let r = 0; r < rows; r++) {
      const row = x.subarray(r * dim, (r + 1) * dim);
      const mean = row.reduce((a, c) => a + c, 0) / dim;
      const variance = row.reduce((a, c) => a + (c - mean) ** 2, 0) / dim;
      for (let d = 0; d < dim; d++) norm[r * dim + d] = (row[d]! - mean) / Math.sqrt(variance + eps);
    }
    const input = gpu.upload(x, [batch, tokens, dim]), mod = gpu.upload(m, [batch, 6, dim]);
    assertClose(await gpu.read(layerNorm(gpu, input, eps)), norm, 1e-6, "plain");
    const affine = layerNorm(gpu, input, eps, { weight: gpu.upload(w, [dim]), bias: gpu.upload(b, [dim]) });
    assertClose(await gpu.read(affine), norm.map((v, i) => v * w[i % dim]! + b[i % dim]!), 1e-6, "affine");
    const adaptive = layerNorm(gpu, input, eps, { scale: { tensor: mod, index: 4 }, shift: { tensor: mod, index: 3 } });
    const ref = norm.map((v, i) => {
      const at = Math.floor(i / (tokens * dim)) * 6 * dim + i % dim;
      return v * (1 + m[at + 4 * dim]!) + m[at + 3 * dim]!;
    });
    assertClose(await gpu.read(adaptive), ref, 1e-6, "adaptive");
  }
});

Deno.test("the largest matrix units there are take operands in blocks at the sizes that are tested", () => {
  const gpu = dryGpu({ precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS });
  const sizes = [[1900, 72, 1400], [1900, 1400, 1400], [1300, 544, 1920], [170, 96, 8192], [330, 256, 5640]] as const;
  for (const [rows, k, n] of sizes) assert(sharedForms(gpu, rows, gpu.tensor([n, k], "bf16")).x, `${rows} ${k} ${n}`);
});

testVariants(
  "a layer norm's output is the same to products in whatever form they take it, in pieces too",
  async ({ gpu }) => {
    // So many outputs that matrix units take their operands in blocks.
    for (const [m, k, n] of [[1300, 544, 1920], [170, 96, 8192]] as const) {
      const x = gpu.upload(randn(m * k, 1, 3), [1, m, k]), w = noise(gpu, [n, k], "bf16");
      const mod = gpu.upload(randn(6 * k, 4), [1, 6, k]);
      const adaptive = { scale: { tensor: mod, index: 4 }, shift: { tensor: mod, index: 3 } };
      const expected = await gpu.read(linear(gpu, layerNorm(gpu, x, 1e-6, adaptive), w));
      const norm = layerNormInto(gpu, x, 1e-6, adaptive, w);
      assertEquals(norm instanceof PackedOperand, gpu.matrixUnits !== undefined);
      assertEquals(await gpu.read(linear(gpu, norm, w)), expected);
      if (!(norm instanceof PackedOperand)) continue;
      // The last piece has fewer rows than products are made of in blocks.
      for (let start = 0, step = norm.rowStep; start < m; start += step) {
        const rows = Math.min(step, m - start), piece = await gpu.read(linear(gpu, norm.rows(start, rows), w));
        assertClose(piece, expected.subarray(start * n, (start + rows) * n), 1e-6);
      }
      assertThrows(() => norm.rows(1, 1), Error, "do not begin at a multiple of");
    }
  },
);

testVariants(
  "rms norm of tokens and of heads, with rope on all tokens or the first ones, and without",
  async ({ gpu }) => {
    const [batch, tokens, eps] = [2, 9, 1e-6];
    for (
      const [heads, headDim, ofHeads, turned] of [
        [3, 8, false, tokens],
        [5, 132, false, tokens],
        [50, 128, false, 7],
        [3, 8, true, tokens],
        [5, 132, true, 7],
        [2, 520, true, 1],
      ] as const
    ) {
      const dim = heads * headDim, normed = ofHeads ? headDim : dim;
      const x = randn(batch * tokens * dim, 1), w = randn(normed, 2);
      const angles = randn(turned * headDim / 2, 3, 3);
      const table = new Float32Array(turned * headDim);
      angles.forEach((a, i) => table.set([Math.cos(a), Math.sin(a)], 2 * i));
      const norm = new Float64Array(x.length);
      for (let at = 0; at < x.length; at += normed) {
        const row = x.subarray(at, at + normed);
        const rms = Math.sqrt(row.reduce((a, c) => a + c * c, 0) / normed + eps);
        for (let d = 0; d < normed; d++) norm[at + d] = row[d]! / rms * w[d]!;
      }
      const rotated = norm.slice();
      for (let i = 0; i < x.length; i += 2) {
        const token = Math.floor(i / dim) % tokens, at = token * headDim + i % headDim;
        if (token >= turned) continue;
        const [c, s, a, b] = [table[at]!, table[at + 1]!, norm[i]!, norm[i + 1]!];
        rotated.set([a * c - b * s, a * s + b * c], i);
      }
      const input = gpu.upload(x, [batch, tokens, dim]), weight = gpu.upload(w, [normed]);
      assertClose(await gpu.read(rmsNorm(gpu, input, weight, eps)), norm, 1e-6);
      const rope = { table: gpu.upload(table, [turned, headDim / 2, 2]) };
      const apart = rmsNorm(gpu, input, weight, eps, { rope });
      assertClose(await gpu.read(apart), rotated, 1e-6);
      const over = gpu.tensor(input.shape);
      gpu.copy(input, over);
      assertEquals(rmsNorm(gpu, over, weight, eps, { rope, into: over }), over);
      assertEquals(await gpu.readBytes(over), await gpu.readBytes(apart));
    }
  },
);

testVariants("combine, activation and modulation", async ({ gpu }) => {
  const [a, b, c] = [randn(77, 1), randn(77, 2), randn(77, 3)];
  const [x, y, z] = [a, b, c].map((v) => gpu.upload(v, [7, 11]));
  const sum = combine(gpu, [[2, x!], [-0.5, y!], [3, z!]]);
  assertClose(await gpu.read(sum), a.map((v, i) => 2 * v - 0.5 * b[i]! + 3 * c[i]!), 1e-6);
  assertClose(await gpu.read(activation(gpu, x!, "silu")), a.map(silu), 1e-6);
  const table = randn(6 * 8, 4), full = randn(2 * 6 * 8, 5), one = randn(2 * 8, 6);
  const mod = modulation(gpu, gpu.upload(table, [1, 6, 8]), gpu.upload(full, [2, 6, 8]));
  assertClose(await gpu.read(mod), full.map((v, i) => v + table[i % 48]!), 1e-6);
  const head = modulation(gpu, gpu.upload(table.subarray(0, 16), [1, 2, 8]), gpu.upload(one, [2, 8]));
  const ref = Float32Array.from({ length: 32 }, (_, i) => table[i % 16]! + one[Math.floor(i / 16) * 8 + i % 8]!);
  assertClose(await gpu.read(head), ref, 1e-6);
});

testVariants("patches go apart and together again", async ({ gpu }) => {
  const shape = [2, 3, 4, 6, 10], x = randn(2 * 3 * 4 * 6 * 10, 1), patch = [2, 3, 5] as const;
  const split = await gpu.read(patchify(gpu, gpu.upload(x, shape), patch));
  const tokens = 2 * 2 * 2, size = 3 * 30;
  const ref = new Float32Array(x.length), rows = new Float32Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const [w, h, t] = [i % 10, Math.floor(i / 10) % 6, Math.floor(i / 60) % 4];
    const [c, b] = [Math.floor(i / 240) % 3, Math.floor(i / 720)];
    const token = b * tokens + (Math.floor(t / 2) * 2 + Math.floor(h / 3)) * 2 + Math.floor(w / 5);
    const place = ((t % 2) * 3 + h % 3) * 5 + w % 5;
    ref[token * size + c * 30 + place] = x[i]!;
    rows[token * size + place * 3 + c] = x[i]!;
  }
  assertClose(split, ref, 0);
  assertClose(await gpu.read(unpatchify(gpu, gpu.upload(rows, [2, tokens, size]), shape, patch)), x, 0);
  const again = gpu.upload(split, [2, tokens, size]);
  assertClose(await gpu.read(unpatchify(gpu, again, shape, patch, "first")), x, 0);
});
