import { assert, assertEquals } from "@std/assert";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../../gpu/device/dry.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { headOfKind } from "../../../gpu/kernels/chosen_heads.ts";
import { attention } from "../../../gpu/ops/attention.ts";
import { largestOfRows, sumRows } from "../../../gpu/ops/sum_rows.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";

testVariants("sums and largest magnitudes of columns, of all heads or of some", async ({ gpu }) => {
  const [batch, rows, heads, headDim] = [2, 4167, 5, 12], columns = heads * headDim;
  const data = randn(batch * rows * columns, 3), x = gpu.upload(data, [batch, rows, columns]);
  const sums = new Float64Array(batch * columns), tops = new Float64Array(batch * columns);
  for (const [at, value] of data.entries()) {
    const column = Math.floor(at / (rows * columns)) * columns + at % columns;
    sums[column]! += value;
    tops[column] = Math.max(tops[column]!, Math.abs(value));
  }
  const [all, largest] = [await gpu.read(sumRows(gpu, x)), await gpu.read(largestOfRows(gpu, x))];
  assertClose(all, sums, 2e-6);
  assertEquals([...largest], [...tops]);
  // The same bits; the columns of other heads are not touched.
  const chosen = [3, 0], only = gpu.upload(Uint32Array.from(chosen, (head) => headOfKind(head, head)), [2], "u32");
  for (const [made, whole] of [[sumRows, all], [largestOfRows, largest]] as const) {
    const some = await gpu.read(made(gpu, x, { heads, only }));
    for (const [i, value] of some.entries()) {
      if (chosen.includes(Math.floor(i % columns / headDim))) assertEquals(value, whole[i]);
      else assert(Number.isNaN(value), `column ${i} is ${value}`);
    }
  }
});

Deno.test("attention in int8 adds up each head's keys once, in however many parts the heads are computed", () => {
  const HEADS = 4, TOKENS = 2048;
  const added = (parts: readonly (readonly number[])[]) => {
    const gpu: Gpu = dryGpu({ precision: "f16", int8: true, matrixUnits: NVIDIA_MATRIX_UNITS, subgroup: 32 });
    let sum = 0;
    const run = gpu.run;
    gpu.run = function (kernel, dispatch) {
      if (kernel.name === "sum_rows") sum += dispatch.params!.count!;
      run.call(this, kernel, dispatch);
    };
    const q = gpu.tensor([1, TOKENS, HEADS * 128]);
    for (const heads of parts) {
      attention(gpu, q, q, q, { heads: HEADS, only: gpu.upload(Uint32Array.from(heads), [heads.length], "u32") });
    }
    return sum;
  };
  assert(added([[0, 1, 2, 3]]) > 0);
  assertEquals(added([[0, 2], [1], [3]]), added([[0, 1, 2, 3]]));
});
