import type { Gpu } from "../../gpu/gpu.ts";
import { activation } from "../../gpu/ops/activation.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import { linear } from "../../gpu/ops/linear.ts";
import { rmsNorm } from "../../gpu/ops/rms_norm.ts";
import { Tape } from "../../gpu/tape.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { Linear } from "../../model/layers/linear.ts";
import { feedForward, type FeedForwardWeights } from "../../model/layers/feed_forward.ts";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { assertClose, randn, testVariants } from "../gpu.ts";
import { differences, gelu, gradientBound, gradientsOnGpu, kernelsOf, layerNormRow, linearRow } from "../gradients.ts";

testVariants("a tape adds up what a tensor gets from each of its uses", async ({ gpu }) => {
  const a = randn(21, 1), dy = randn(21, 2), x = gpu.upload(a, [3, 7]);
  const slope = (v: number) => {
    const s = 1 / (1 + Math.exp(-v));
    return s * (1 + v * (1 - s));
  };
  const cases: [string, () => Tensor, (v: number) => number][] = [
    ["both operands", () => combine(gpu, [[2, x], [3, x]]), () => 5],
    ["both, as they are", () => combine(gpu, [[1, x], [1, x]]), () => 2],
    ["a branch beside it", () => combine(gpu, [[1, activation(gpu, x, "silu")], [1, x]]), (v) => slope(v) + 1],
    ["a branch before it", () => combine(gpu, [[1, x], [1, activation(gpu, x, "silu")]]), (v) => slope(v) + 1],
    [
      "through another shape",
      () => combine(gpu, [[1, activation(gpu, x.reshape([21]), "silu")], [4, x]]),
      (v) => slope(v) + 4,
    ],
    // The sum's gradient is that of both of its operands, one of which has another already.
    ["a later use first", () => {
      const sum = combine(gpu, [[1, activation(gpu, x, "silu")], [1, x]]);
      return combine(gpu, [[1, sum], [1, x]]);
    }, (v) => slope(v) + 2],
    ["twice on", () => {
      const sum = combine(gpu, [[1, x], [1, x]]);
      return combine(gpu, [[1, sum], [0.5, activation(gpu, sum, "silu")], [1, sum]]);
    }, (v) => 4 + slope(2 * v)],
  ];
  for (const [what, forward, factor] of cases) {
    const [dx] = await gradientsOnGpu(gpu, [x], dy, forward);
    assertClose(dx!, Float64Array.from(a, (v, i) => factor(v) * dy[i]!), 1e-6, what);
  }
});

testVariants("a tape gives gradients of what lies between, too, and of the end itself", async ({ gpu }) => {
  const x = gpu.upload(randn(8, 1), [8]), dy = randn(8, 2);
  const found = gpu.scope(() => {
    const tape = new Tape([x]);
    let [middle, y] = [x, x];
    gpu.taping(tape, () => {
      middle = combine(gpu, [[3, x]]);
      y = combine(gpu, [[2, middle]]);
    });
    return tape.gradients(gpu, y, gpu.upload(dy, [8]), [x, middle, y]) as Tensor[];
  });
  for (const [i, factor] of [6, 2, 1].entries()) {
    assertClose(await gpu.read(found[i]!), dy.map((v) => factor * v), 1e-7);
  }
});

testVariants("a tape takes views of an output for the output", async ({ gpu }) => {
  const [rows, n, k] = [6, 8, 4], w = randn(n * k, 1), dy = randn(rows * n, 2);
  const x = gpu.upload(randn(rows * k, 3), [2, 3, k]), weight = gpu.upload(w, [n, k]);
  const [dx] = await gradientsOnGpu(gpu, [x], dy, () => {
    const y = linear(gpu, x.reshape([rows, k]), weight);
    return combine(gpu, [[1, y.reshape([rows * n])], [2, y.reshape([n, rows])]]);
  });
  const ref = Float64Array.from({ length: rows * k }, (_, i) => {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += 3 * dy[Math.floor(i / k) * n + j]! * w[j * k + i % k]!;
    return sum;
  });
  assertClose(dx!, ref, 1e-6);
});

testVariants("what is not watched gets no gradient and no work", ({ gpu }) => {
  const [m, n, k] = [3, 8, 4];
  const x = gpu.upload(randn(m * k, 1), [m, k]), w = gpu.upload(randn(n * k, 2), [n, k]);
  const r = gpu.upload(randn(m * n, 3), [m, n]), dy = gpu.upload(randn(m * n, 4), [m, n]);
  /** The kernels of the backward pass. */
  const back = (watched: Tensor[], forward: () => Tensor) => {
    let kernels: string[] = [];
    gpu.scope(() => {
      const tape = new Tape(watched), y = gpu.taping(tape, forward);
      const before = gpu.memory.used;
      kernels = kernelsOf(gpu, () => void tape.gradients(gpu, y, dy, watched));
      if (kernels.length === 0) assertEquals(gpu.memory.used, before);
    });
    return kernels.map((name) => name.replace(/^gemm_.*/, "gemm").replace(/_plain$/, ""));
  };
  const layer = () => linear(gpu, layerNorm(gpu, x, 1e-6), w, { residual: r });
  assertEquals(back([x], layer), ["gemm", "layer_norm_backward"]);
  assertEquals(back([r], layer), []);
  assertEquals(back([x, r], layer), ["gemm", "layer_norm_backward"]);
  assertEquals(back([x], () => layerNorm(gpu, r, 1e-6)), []);
  assertEquals(back([r], () => combine(gpu, [[2, activation(gpu, linear(gpu, x, w), "silu")], [3, r]])), ["combine_1"]);
  gpu.scope(() => {
    const tape = new Tape([x]), y = gpu.taping(tape, layer);
    assertEquals(tape.gradients(gpu, y, dy, [x, r]).map((gradient) => gradient !== undefined), [true, false]);
  });
  return Promise.resolve();
});

testVariants(
  "a tape takes parts of a tensor, written and read by several layers",
  async (variant) => {
    // As in joint attention: two sequences have their own layers and norms, whose outputs lie one after the other.
    const { gpu } = variant, [n, k, out] = [64, 12, 128], lengths = [5, 3] as const, all = lengths[0] + lengths[1];
    const xs = lengths.map((rows, i) => randn(rows * k, i)), ws = [0, 1].map((i) => randn(n * k, 2 + i));
    const head = randn(out * n, 4), dy = randn(all * n, 5), bias = new Float32Array(n), none = new Float32Array(out);
    const inputs = xs.map((x, i) => gpu.upload(x, [lengths[i]!, k])), weights = ws.map((w) => gpu.upload(w, [n, k]));
    const ones = gpu.upload(new Float32Array(n).fill(1), [n]);
    const headWeight = gpu.upload(head, [out, n]), r = gpu.upload(randn(lengths[1] * n, 6), [lengths[1], n]);
    const joint = () => {
      const y = gpu.tensor([all, n]);
      rmsNorm(gpu, linear(gpu, inputs[0]!, weights[0]!), ones, 1e-6, { into: y.rows(0, lengths[0]) });
      linear(gpu, inputs[1]!, weights[1]!, { into: y.rows(lengths[0], lengths[1]), residual: r });
      return y;
    };
    const rowsOf = (i: number) => (row: Float64Array) => {
      const y = linearRow(row, ws[i]!, bias), rms = Math.sqrt(y.reduce((sum, v) => sum + v * v, 0) / n + 1e-6);
      return i === 0 ? y.map((v) => v / rms) : y;
    };
    const parts = (of: Float32Array, width: number) => [of.slice(0, lengths[0] * width), of.slice(lengths[0] * width)];

    const together = await gradientsOnGpu(gpu, [...inputs, r], dy, () => combine(gpu, [[2, joint()]]));
    for (const [i, part] of parts(dy, n).entries()) {
      const ref = differences(xs[i]!, k, part!, (row) => rowsOf(i)(row).map((v) => 2 * v));
      assertClose(together[i]!, ref, gradientBound(variant), `together, ${i}`);
    }
    assertClose(together[2]!, parts(dy, n)[1]!.map((v) => 2 * v), 0, "together, the residual");

    // Each part is read by itself, and the whole; the second input is not asked for.
    const last = randn(all * out, 7);
    const [dx] = await gradientsOnGpu(gpu, [inputs[0]!], last, () => {
      const y = joint(), z = gpu.tensor([all, out]), whole = linear(gpu, y, headWeight);
      linear(gpu, y.rows(lengths[0], lengths[1]), headWeight, { into: z.rows(lengths[0], lengths[1]) });
      linear(gpu, y.rows(0, lengths[0]), headWeight, { into: z.rows(0, lengths[0]) });
      return combine(gpu, [[1, z], [3, whole]]);
    });
    const ref = differences(
      xs[0]!,
      k,
      parts(last, out)[0]!,
      (row) => linearRow(rowsOf(0)(row), head, none).map((v) => 4 * v),
    );
    assertClose(dx!, ref, gradientBound(variant), "one by one");
  },
);

testVariants(
  "a tape refuses gradients by constants, and parts written with an activation",
  ({ gpu }) => {
    const x = gpu.upload(randn(8, 1), [2, 4]), w = gpu.upload(randn(16, 2), [4, 4]);
    const g = gpu.upload(randn(4, 3), [1, 1, 4]), gate = { tensor: g, index: 0 };
    const back = (watched: Tensor, forward: () => Tensor) =>
      gpu.scope(() => {
        const tape = new Tape([watched]), y = gpu.taping(tape, forward);
        tape.gradients(gpu, y, x, [watched]);
      });
    assertThrows(() => back(w, () => linear(gpu, x, w)), Error, "no gradient for input 2");
    assertThrows(() => back(g, () => linear(gpu, x, w, { gate })), Error, "no gradient for input 3");
    assertThrows(() => back(g, () => layerNorm(gpu, x, 1e-6, { scale: gate, shift: gate })), Error, "for input 1");
    assertThrows(
      () => back(x, () => linear(gpu, x, w, { activation: "silu", into: gpu.tensor([2, 4]) })),
      Error,
      "while a tape",
    );
    assertThrows(() => gpu.taping(new Tape([x]), () => linear(gpu, x, w)), Error, "without a scope");
    return Promise.resolve();
  },
);

/** Weights of a chain, and the chain on the CPU. */
function chain(dim: number, wide: number, rows: number, seed: number) {
  const up = randn(wide * dim, seed, dim ** -0.5), upBias = randn(wide, seed + 1);
  const down = randn(dim * wide, seed + 2, wide ** -0.5), downBias = randn(dim, seed + 3);
  return {
    up,
    upBias,
    down,
    downBias,
    x: randn(rows * dim, seed + 4),
    dy: randn(rows * dim, seed + 5),
    /** down(gelu(up(x))) */
    forward: (row: Float64Array) => linearRow(linearRow(row, up, upBias).map(gelu), down, downBias),
  };
}

function uploadChain(gpu: Gpu, c: ReturnType<typeof chain>): FeedForwardWeights {
  const wide = c.upBias.length, dim = c.downBias.length;
  return {
    up: new Linear(gpu.upload(c.up, [wide, dim]), gpu.upload(c.upBias, [wide])),
    down: new Linear(gpu.upload(c.down, [dim, wide]), gpu.upload(c.downBias, [dim])),
  };
}

for (const [batch, tokens, dim, wide] of [[1, 1, 4, 8], [2, 5, 20, 36]] as const) {
  testVariants(`a taped chain of ${batch}x${tokens}x${dim}: norm, linear, gelu, linear, residual`, async (variant) => {
    const { gpu, bound } = variant, c = chain(dim, wide, batch * tokens, 1), mod = randn(batch * 6 * dim, 9);
    const at = (r: number, chunk: number, d: number) => mod[(Math.floor(r / tokens) * 6 + chunk) * dim + d]!;
    const forward = (row: Float64Array, r: number) => {
      const norm = layerNormRow(row, 1e-6).map((v, d) => v * (1 + at(r, 4, d)) + at(r, 3, d));
      return c.forward(norm).map((v, d) => row[d]! + v * at(r, 5, d));
    };
    const { up, down } = uploadChain(gpu, c), tensor = gpu.upload(mod, [batch, 6, dim]);
    const x = gpu.upload(c.x, [batch, tokens, dim]), chunk = (index: number) => ({ tensor, index });
    const run = () =>
      gpu.scope(() => {
        const norm = gpu.scope(() => layerNorm(gpu, x, 1e-6, { shift: chunk(3), scale: chunk(4) }));
        const wide = up.apply(gpu, norm, { activation: "gelu_tanh" });
        gpu.release(norm);
        return down.apply(gpu, wide, { gate: chunk(5), residual: x });
      });
    const rows = Array.from(
      { length: batch * tokens },
      (_, r) => [...forward(Float64Array.from(c.x.subarray(r * dim, (r + 1) * dim)), r)],
    );
    const { used } = gpu.memory;
    const [y, dx] = gpu.scope(() => {
      const tape = new Tape([x]), before = gpu.memory.used;
      const y = gpu.taping(tape, run);
      // Four outputs: the norm, the pre-activation, its activation, the end; nothing was given back.
      assert(gpu.memory.used - before >= 4 * batch * tokens * (2 * dim + 2 * wide));
      const { used } = gpu.memory;
      gpu.taping(tape, () => gpu.release(y));
      assertEquals(gpu.memory.used, used);
      const [dx] = tape.gradients(gpu, y, gpu.upload(c.dy, y.shape), [x]);
      return [y, dx!];
    });
    assertClose(await gpu.read(y!), rows.flat(), bound, "forward");
    assertClose(await gpu.read(dx!), differences(c.x, dim, c.dy, forward), gradientBound(variant));
    gpu.release(y!);
    gpu.release(dx!);
    assertEquals(gpu.memory.used, used);
  });
}

for (
  const [what, batch, tokens, dim, wide, bytes] of [
    ["one token", 1, 1, 4, 8, undefined],
    ["a batch at once", 2, 13, 20, 36, undefined],
    ["a batch in pieces", 2, 130, 64, 36, 64 * 36 * 4],
    ["pieces of 128 and a rest", 1, 261, 16, 24, 150 * 24 * 4],
  ] as const
) {
  testVariants(`feed-forward, backwards: ${what}`, async (variant) => {
    const { gpu } = variant, size = batch * tokens * dim, c = chain(dim, wide, batch * tokens, 1);
    const gates = randn(batch * 6 * dim, 7), r = randn(size, 8);
    const forward = (row: Float64Array, i: number) =>
      c.forward(row).map((v, d) => r[i * dim + d]! + v * gates[(Math.floor(i / tokens) * 6 + 2) * dim + d]!);
    const w = uploadChain(gpu, c), shape = [batch, tokens, dim];
    const x = gpu.upload(c.x, shape), residual = gpu.upload(r, shape);
    const gate = { tensor: gpu.upload(gates, [batch, 6, dim]), index: 2 };
    const run = () => feedForward(gpu, w, x, gate, residual, bytes ? { widenedBytes: bytes } : {});

    const untaped = await gpu.read(run());
    let taped: Tensor, largest = 0;
    const make = gpu.tensor;
    gpu.tensor = (shape, ...rest) => {
      largest = Math.max(largest, shape.at(-1) === wide ? 4 * shape.reduce((a, b) => a * b) : 0);
      return make.call(gpu, shape, ...rest);
    };
    const gradients = gradientsOnGpu(gpu, [x, residual], c.dy, () => taped = gpu.keep(run()));
    const [dx, dr] = await gradients.finally(() => gpu.tensor = make);
    assertEquals(await gpu.read(taped!), untaped);
    assertClose(dx!, differences(c.x, dim, c.dy, forward), gradientBound(variant));
    assertClose(dr!, c.dy, 0);
    if (bytes) assert(largest > 0 && largest <= bytes, `${largest} bytes at once`);

    // Without x on the tape, nothing is made anew.
    const dy = gpu.upload(c.dy, shape);
    gpu.scope(() => {
      const tape = new Tape([residual]), y = gpu.taping(tape, run);
      assertEquals(kernelsOf(gpu, () => void tape.gradients(gpu, y, dy, [residual])), []);
    });
  });
}
