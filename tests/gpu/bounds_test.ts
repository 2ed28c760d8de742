/**
 * The check of indices that the ops' tests run under with TILEREEL_CHECK_BOUNDS=1: it tells which kernel went past the
 * end of which array, and leaves what is in bounds as it is.
 */
import { openGpu } from "../../gpu/native/open.ts";
import { Gpu } from "../../gpu/gpu.ts";
import { type KernelSource, read, write } from "../../gpu/kernel.ts";
import { assertEquals, assertRejects } from "@std/assert";

/** Reverses four numbers through a nested array in workgroup memory, after reading one more and writing it on. */
const KERNEL: KernelSource = {
  name: "reversing",
  buffers: { places: read("u32"), x: read("vec4f"), y: write("f32") },
  params: { extra: "u32", row: "u32", column: "u32" },
  workgroupSize: [4, 1, 1],
  declarations: "var<workgroup> turned: array<array<f32, 2>, 3>;",
  body: `  // As in [a comment.
  turned[(3u - li) / 2u + p.row][i32((3u - li) % 2u + p.column)] = x[places[li]][0];
  workgroupBarrier();
  y[li + p.extra] = turned[li / 2u][li % 2u];`,
};

Deno.test({
  name: "reads and writes out of bounds are told by kernel, array and index",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    const { device, settings } = await openGpu();
    const gpu = new Gpu(device, { ...settings, checkBounds: true });
    const x = gpu.upload(Float32Array.from({ length: 16 }, (_, i) => i), [4, 4]);
    const run = (places: number[], params: Record<string, number> = {}) => {
      const y = gpu.tensor([4]);
      gpu.run(KERNEL, {
        buffers: { places: gpu.upload(Uint32Array.from(places), [4], "u32"), x, y },
        params: { extra: 0, row: 0, column: 0, ...params },
        workgroups: [1, 1, 1],
      });
      return gpu.read(y);
    };
    const refused = (found: string, places: number[], params?: Record<string, number>) =>
      assertRejects(() => run(places, params), Error, `out of bounds: ${found}`);
    assertEquals([...await run([0, 1, 2, 3])], [12, 8, 4, 0]);
    await refused("kernel reversing, x: index 9", [0, 1, 9, 3]);
    await refused("kernel reversing, y: index 7", [0, 1, 2, 3], { extra: 4 });
    await refused("kernel reversing, turned: index 4", [0, 1, 2, 3], { row: 3 });
    await refused("kernel reversing, turned[]: index 2", [0, 1, 2, 3], { column: 1 });
    await refused("kernel reversing, turned[]: index 4294967295", [0, 1, 2, 3], { column: 2 ** 32 - 1 });
    // What was told is forgotten.
    assertEquals([...await run([3, 2, 1, 0])], [0, 4, 8, 12]);
    gpu.close();
  },
});
