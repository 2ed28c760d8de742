/** What no software adapter shows, because it runs the subgroups of a workgroup one after the other. */
import { assert, assertEquals } from "@std/assert";
import { NVIDIA_MATRIX_UNITS } from "../../../gpu/device/dry.ts";
import { attentionMatrix } from "../../../gpu/kernels/attention/matrix.ts";

Deno.test("between two barriers, only one of the subgroups that share queries passes its outputs through the scores", () => {
  const { body } = attentionMatrix({
    ...{ headDim: 128, bias: false, plan: true, lse: true },
    tile: {
      ...{ units: NVIDIA_MATRIX_UNITS, subgroups: [4, 2], rows: 32, keys: 32 },
      ...{ sums: "f32", turns: 1, apart: true, delayed: true },
    },
  });
  const parts = body.split("workgroupBarrier();").map((code) => new Set(code.match(/part == \d+u/g)));
  assert(parts.some(({ size }) => size === 1));
  assertEquals(parts.filter(({ size }) => size > 1), []);
});
