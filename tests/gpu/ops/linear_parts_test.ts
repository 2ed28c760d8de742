import { f32 } from "../../../gpu/formats/f32.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { dryGpu } from "../../../gpu/device/dry.ts";
import { linear, linearInto } from "../../../gpu/ops/linear.ts";
import { sharedInput, sharedWeight } from "../../../gpu/ops/shared_operands.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { randn, testVariants } from "../../gpu.ts";

/** Runs `work` on a device that can bind so little. */
async function limited<T>(gpu: Gpu, bytes: number, work: () => T | Promise<T>): Promise<T> {
  Object.defineProperty(gpu, "maxTensorBytes", { configurable: true, get: () => bytes });
  try {
    return await work();
  } finally {
    delete (gpu as { maxTensorBytes?: number }).maxTensorBytes;
  }
}

// An odd number of columns is for plain kernels everywhere; the last part is small, or has one row; many rows of x are
// for the kernels of large products.
for (const [m, n, k] of [[5, 1025, 24], [67, 700, 72], [1900, 1400, 64]] as const) {
  for (const dtype of ["f32", "f16"] as const) {
    testVariants(
      `linear ${m}x${n}x${k}, a weight in parts of ${dtype}, gives bit for bit what it does whole`,
      async ({ gpu }) => {
        const part = 256 * k * (dtype === "f32" ? 4 : 2);
        const data = randn(n * k, 2, 0.3);
        const w = dtype === "f32"
          ? gpu.upload(data, [n, k])
          : gpu.upload(new Uint8Array(new Float16Array(data).buffer), [n, k], "f16");
        const x = gpu.upload(randn(m * k, 1), [m, k]),
          bias = gpu.upload(randn(n, 3), [n]),
          scale = gpu.upload(randn(n, 7), [n]);
        const residual = gpu.upload(randn(m * n, 4), [m, n]);
        // Four vectors a batch item, of which the third is taken.
        const gate = { tensor: gpu.upload(randn(4 * n, 5), [1, 4, n]), index: 2 };
        const options = { scale, bias, residual, gate, activation: "gelu_tanh" } as const;
        const whole = await gpu.read(linear(gpu, x, w, options));
        const parts = await limited(gpu, part, () => {
          const shared = sharedWeight(gpu, w, m);
          return gpu.read(linear(gpu, sharedInput(gpu, x, w), shared, options));
        });
        assertEquals(parts, whole);
        assert(whole.every(Number.isFinite));
        // Handed on in the form that the next product reads fastest.
        if (n % 8 === 0) {
          const next = gpu.upload(randn(8 * n, 6), [8, n]);
          const handed = () => linearInto(gpu, x, w, next, { scale, bias });
          const inParts = await limited(gpu, part, handed);
          const made = await Promise.all([handed(), inParts].map((operand) => gpu.read(linear(gpu, operand, next))));
          assertEquals(made[1], made[0]);
          gpu.release(next);
        }
        for (const tensor of [w, x, scale, bias, residual, gate.tensor]) gpu.release(tensor);
      },
    );
  }
}

testVariants("a weight in parts has no backward pass, and says so", async ({ gpu }) => {
  const w = gpu.upload(randn(1024 * 8, 1), [1024, 8]), dy = gpu.upload(randn(2 * 1024, 2), [2, 1024]);
  await limited(gpu, 256 * 8 * 4, () => {
    const back = () => gpu.scope(() => linear(gpu, dy, w, { transposed: true }));
    assertThrows(back, TilereelError, "the backward pass through a weight of [1024,8] needs 32.0 KiB at once");
  });
  await limited(gpu, 255 * 8 * 4, () => {
    const x = gpu.upload(randn(8, 3), [1, 8]);
    assertThrows(() => gpu.scope(() => linear(gpu, x, w)), TilereelError, "a weight of [1024,8] needs 32.0 KiB");
    gpu.release(x);
  });
});

Deno.test("a weight may be larger than what can be bound, other tensors may not", () => {
  const gpu = dryGpu({ limits: { maxStorageBufferBindingSize: 2 ** 20, maxBufferSize: 2 ** 22 } });
  assertThrows(() => gpu.tensor([2 ** 19]), TilereelError, "this adapter allows 1.00 MiB");
  assertEquals(gpu.weight([2 ** 19], f32, "a weight").bytes, 2 ** 21);
  assertThrows(() => gpu.weight([2 ** 21], f32, "a weight"), TilereelError, "this adapter allows 4.00 MiB");
});
