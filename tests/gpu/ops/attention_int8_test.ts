/** Attention on devices of precision int8. */
import { assertEquals } from "@std/assert";
import { Gpu } from "../../../gpu/gpu.ts";
import { attention } from "../../../gpu/ops/attention.ts";
import { forwardFamily } from "../../../gpu/ops/attention_family.ts";
import { relativeError } from "../../../gpu/relative_error.ts";
import { assertClose, exceptPlain, randn, testVariants } from "../../gpu.ts";
import { attend } from "../../reference_attention.ts";

const QUERIES = 70, HEADS = 2, HEAD_DIM = 32, DIM = HEADS * HEAD_DIM;

/** Attention of normally distributed numbers in int8, and its reference. Keys have an offset in common. */
async function inInt8({ device, settings }: Gpu, keys: number, offset: number) {
  const gpu = new Gpu(device, { ...settings, int8: true });
  gpu.poison = true;
  const q = randn(QUERIES * DIM, 1), k = randn(keys * DIM, 2).map((x) => x + offset), v = randn(keys * DIM, 3);
  const tensors = [q, k, v].map((x) => gpu.upload(x, [1, x.length / DIM, DIM]));
  const found = await gpu.read(attention(gpu, tensors[0]!, tensors[1]!, tensors[2]!, { heads: HEADS }));
  return { found, expected: attend(q, k, v, { batch: 1, queries: QUERIES, keys, heads: HEADS, headDim: HEAD_DIM }) };
}

testVariants("long sequences attend in int8, and an offset that all keys share does no harm", async ({ gpu }) => {
  const hasInt8 = forwardFamily({ headDim: HEAD_DIM, plan: false, int8: true }).variants(gpu).size > 0;
  for (const offset of [0, 20]) {
    const { found, expected } = await inInt8(gpu, 1030, offset);
    // Measured: 0.8e-2 to 1.2e-2
    assertClose(found, expected, 2e-2);
    assertEquals(relativeError(found, expected) > 4e-3, hasInt8);
  }
}, exceptPlain);

testVariants("short sequences do not", async ({ gpu, bound }) => {
  const { found, expected } = await inInt8(gpu, 200, 0);
  assertClose(found, expected, 2 * bound);
}, exceptPlain);
