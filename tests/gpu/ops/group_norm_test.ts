import { groupNorm } from "../../../gpu/ops/group_norm.ts";
import { assertEquals, assertThrows } from "@std/assert";
import { assertClose, randn, testVariants } from "../../gpu.ts";

/** torch.nn.functional.group_norm of rows [rows, channels], in float64. */
function reference(
  x: Float32Array,
  channels: number,
  dim: number,
  groups: number,
  gamma: Float32Array,
  beta: Float32Array,
) {
  const rows = x.length / channels, size = dim / groups, y = new Float64Array(x.length);
  for (let g = 0; g < groups; g++) {
    const each = (visit: (at: number, c: number) => void) => {
      for (let r = 0; r < rows; r++) for (let c = g * size; c < (g + 1) * size; c++) visit(r * channels + c, c);
    };
    let sum = 0, squares = 0;
    each((at) => sum += x[at]!);
    const mean = sum / (rows * size);
    each((at) => squares += (x[at]! - mean) ** 2);
    const factor = 1 / Math.sqrt(squares / (rows * size) + 1e-6);
    each((at, c) => y[at] = (x[at]! - mean) * factor * gamma[c]! + beta[c]!);
  }
  return y;
}

const silu = (v: number) => v / (1 + Math.exp(-v));

for (
  const [shape, dim, groups] of [
    [[1, 1, 1, 4], 4, 1],
    [[1, 1, 1, 8], 6, 3],
    [[3, 5, 7, 8], 8, 4],
    [[5, 9, 11, 24], 24, 4],
    [[2, 16, 17, 12], 9, 3],
    [[1, 16, 16, 64], 64, 32],
    [[3, 37, 41, 128], 128, 32],
  ] as const
) {
  testVariants(`groupNorm of [${shape}], ${dim} channels in ${groups} groups`, async ({ gpu }) => {
    const channels = shape[3], size = shape.reduce<number>((a, b) => a * b, 1);
    // Channels lie far from 0, each somewhere else: what is lost in E[x²] − E[x]² would show.
    const x = randn(size, 1).map((v, i) => i % channels < dim ? v + 4 + i % 8 / 4 : 0);
    const vector = (seed: number) => randn(channels, seed).map((v, c) => c < dim ? v : 0);
    const gamma = vector(2), beta = vector(3), ref = reference(x, channels, dim, groups, gamma, beta);
    const operands = [gpu.upload(gamma, [channels]), gpu.upload(beta, [channels])] as const;
    const input = gpu.upload(x, shape), y = groupNorm(gpu, input, ...operands, { groups, dim });
    assertEquals(y.shape, shape);
    assertClose(await gpu.read(y), ref, 2e-6);
    assertEquals(await gpu.read(input), x);
    if (gpu.f16) {
      const halves = groupNorm(gpu, input, ...operands, { groups, dim, silu: true, into: "f16" });
      assertEquals(halves.shape, shape);
      assertClose(new Float16Array(await gpu.readBytes(halves), 0, size), ref.map(silu), 5e-4);
    }
    const same = groupNorm(gpu, input, ...operands, { groups, dim, silu: true, into: "x" });
    assertEquals(same, input);
    assertClose(await gpu.read(same), ref.map(silu), 2e-6);
  });
}

testVariants("groupNorm refuses groups that do not divide the channels", async ({ gpu }) => {
  const vector = gpu.tensor([8]);
  assertThrows(() => groupNorm(gpu, gpu.tensor([2, 8]), vector, vector, { groups: 3 }), Error, "in 3 groups");
  await gpu.finish();
});
