import { layerNorm, layerNormInto } from "../../../gpu/ops/layer_norm.ts";
import { PackedOperand } from "../../../gpu/ops/packed_operand.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { noise } from "../../../gpu/tuning/noise.ts";
import { feedForward } from "../../../model/layers/feed_forward.ts";
import { Linear } from "../../../model/layers/linear.ts";
import { assertEquals } from "@std/assert";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { gradientsOnGpu } from "../../gradients.ts";

testVariants("feed-forward: in pieces it gives the same, whatever form its input has", async ({ gpu }) => {
  // So wide that matrix units take the input in blocks, of which the last piece has one that is not full.
  const [tokens, dim, wide] = [330, 256, 5640], gate = { tensor: gpu.upload(randn(6 * dim, 1), [1, 6, dim]), index: 5 };
  const x = gpu.upload(randn(tokens * dim, 2), [1, tokens, dim]);
  const w = {
    up: new Linear(noise(gpu, [wide, dim], "bf16"), gpu.upload(randn(wide, 3), [wide])),
    down: new Linear(noise(gpu, [dim, wide], "bf16"), gpu.upload(randn(dim, 4), [dim])),
  };
  const expected = await gpu.read(feedForward(gpu, w, layerNorm(gpu, x, 1e-6), gate, x));
  const norm = layerNormInto(gpu, x, 1e-6, undefined, w.up.weight);
  assertEquals(norm instanceof PackedOperand, gpu.matrixUnits !== undefined);
  for (const bytes of [Infinity, 128 * wide * 4]) {
    const y = feedForward(gpu, w, norm, gate, x, { widenedBytes: bytes });
    assertClose(await gpu.read(y), expected, 1e-6, `${bytes} bytes at once`);
  }
  const silu = { activation: "silu" } as const, y = feedForward(gpu, w, x, gate, x, silu);
  const composed = w.down.apply(gpu, w.up.apply(gpu, x, silu), { gate, residual: x });
  assertClose(await gpu.read(y), await gpu.read(composed), gpu.f16 ? 2e-3 : 1e-6);
});

testVariants(
  "feed-forward: two streams write the rows of one tensor, and gradients flow back to both",
  async ({ gpu }) => {
    const dim = 64, wide = 96, lengths = [130, 8], total = 138;
    const all = gpu.upload(randn(total * dim, 1), [total, dim]), dy = randn(total * dim, 2);
    const streams = lengths.map((rows, i) => ({
      rows: (of: Tensor) => of.reshape([total, dim]).rows(i === 0 ? 0 : lengths[0]!, rows).reshape([1, rows, dim]),
      x: gpu.upload(randn(rows * dim, 3 + i), [1, rows, dim]),
      gate: { tensor: gpu.upload(randn(dim, 5 + i), [1, 1, dim]), index: 0 },
      w: {
        up: new Linear(gpu.upload(randn(wide * dim, 7 + i), [wide, dim])),
        down: new Linear(gpu.upload(randn(dim * wide, 9 + i), [dim, wide])),
      },
    }));
    const options = { widenedBytes: 64 * wide * 4 };
    const joint = () => {
      const y = gpu.tensor([1, total, dim]);
      for (const { w, x, gate, rows } of streams) {
        feedForward(gpu, w, x, gate, rows(all), { ...options, into: rows(y) });
      }
      return y;
    };
    const y = await gpu.read(joint()),
      gradients = await gradientsOnGpu(gpu, [...streams.map(({ x }) => x), all], dy, joint);
    assertClose(gradients[2]!, dy, 0);
    for (const [i, { w, x, gate, rows }] of streams.entries()) {
      const from = i === 0 ? 0 : lengths[0]! * dim, part = (of: Float32Array) => of.slice(from, from + x.size);
      const alone = () => feedForward(gpu, w, x, gate, rows(all), options);
      assertEquals(part(y), await gpu.read(alone()));
      const [dx] = await gradientsOnGpu(gpu, [x], part(dy), alone);
      assertEquals(gradients[i], dx);
    }
  },
);
