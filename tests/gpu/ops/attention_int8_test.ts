/** Attention on devices of precision int8. */
import { assertEquals } from "@std/assert";
import { Gpu } from "../../../gpu/gpu.ts";
import { attention } from "../../../gpu/ops/attention.ts";
import { forwardFamily } from "../../../gpu/ops/attention_family.ts";
import { assertClose, exceptPlain, randn, testVariants } from "../../gpu.ts";
import { attend } from "../../reference_attention.ts";

const QUERIES = 70, HEADS = 2, HEAD_DIM = 32, DIM = HEADS * HEAD_DIM;

/** Attention of normally distributed numbers, and its reference. Keys have an offset in common. */
async function attended({ device, settings }: Gpu, keys: number, offset: number) {
  const q = randn(QUERIES * DIM, 1), k = randn(keys * DIM, 2).map((x) => x + offset), v = randn(keys * DIM, 3);
  const on = async (int8: boolean) => {
    const gpu = new Gpu(device, { ...settings, int8 });
    gpu.poison = true;
    const [gq, gk, gv] = [q, k, v].map((x) => gpu.upload(x, [1, x.length / DIM, DIM]));
    return await gpu.read(attention(gpu, gq!, gk!, gv!, { heads: HEADS }));
  };
  const expected = attend(q, k, v, { batch: 1, queries: QUERIES, keys, heads: HEADS, headDim: HEAD_DIM });
  return { inInt8: await on(true), without: await on(false), expected };
}

testVariants(
  "long sequences attend in int8, and an offset that all keys share does no harm",
  async ({ gpu, bound }) => {
    const [variant] = forwardFamily({ headDim: HEAD_DIM, plan: false, int8: true }).variants(gpu).values();
    for (const offset of [0, 20]) {
      const { inInt8, without, expected } = await attended(gpu, 1030, offset);
      assertEquals(inInt8.every((x, i) => x === without[i]), variant === undefined);
      // Measured by dot products: 0.8e-2 to 1.2e-2
      assertClose(inInt8, expected, variant?.kernel === "dot" ? 2e-2 : 2 * bound);
    }
  },
  exceptPlain,
);

testVariants("short sequences do not", async ({ gpu }) => {
  const { inInt8, without } = await attended(gpu, 200, 0);
  assertEquals(inInt8, without);
}, exceptPlain);
