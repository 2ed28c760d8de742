/** Where attention's result may be packed: kernels that `tilereel tune` chose for one use may not be those of another. */
import { assertEquals } from "@std/assert";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../../gpu/device/dry.ts";
import { forwardVariants } from "../../../gpu/kernels/attention/variants.ts";
import { attention, packedOutput } from "../../../gpu/ops/attention.ts";

/** Of 14B: products with rows of so many numbers take packed operands from 512 rows on. */
const HEADS = 40, HEAD_DIM = 128, DIM = HEADS * HEAD_DIM;

for (const int8 of [false, true]) {
  Deno.test(`attention's result is packed only where the kernels of all uses write it so${int8 ? ", in int8" : ""}`, () => {
    /** Whether it is packed where kernels of a family were chosen that do not use matrix units. */
    const packs = (batch: number, tokens: number, family?: string) => {
      const gpu = dryGpu({ precision: "f16", int8, matrixUnits: NVIDIA_MATRIX_UNITS, subgroup: 32 });
      const [tiled] = [...forwardVariants(gpu, HEAD_DIM)].find(([, { kernel }]) => kernel === "tiled")!;
      if (family) gpu.kernels.choose(family, tiled);
      const q = gpu.tensor([batch, tokens, DIM]), into = packedOutput(gpu, q, HEADS, gpu.tensor([DIM, DIM], "f16"));
      attention(gpu, q, q, q, { heads: HEADS, into });
      return into !== undefined;
    };
    // Few keys; so many that int8 pays or not.
    for (const [batch, tokens] of [[8, 64], [1, 512], [1, 2048]] as const) {
      assertEquals(packs(batch, tokens), true);
      for (const use of ["", " by a plan", " to few keys"]) {
        assertEquals(packs(batch, tokens, `attention ${HEAD_DIM}${use}`), false);
      }
    }
  });
}
