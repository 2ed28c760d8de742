import { GGML_FORMATS } from "../../../gpu/formats/ggml.ts";
import { castInto } from "../../../gpu/ops/cast.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { type Dtype, openSafetensors, readFloat32, toFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { linearRow } from "../../gradients.ts";

const FOLDER = new URL("../../fixtures/gguf/", import.meta.url).pathname;

/** A matrix in each format of a file that ggml's Python library wrote, and its numbers as the library decodes them. */
async function matrices() {
  using stored = await openCheckpoint(`${FOLDER}formats.gguf`, "");
  using expected = await openSafetensors(`${FOLDER}expected.safetensors`);
  return await Promise.all(
    Object.values(GGML_FORMATS).map(async (format) => {
      const name = `${format.name.toUpperCase()}.weight`, { shape, dtype } = stored.info(name);
      return { format, dtype, shape, bytes: await stored.read(name), values: await readFloat32(expected, name) };
    }),
  );
}

Deno.test("every format of ggml is decoded on the CPU, also from an odd offset", async () => {
  for (const { dtype, bytes, values } of await matrices()) {
    const odd = new Uint8Array(bytes.length + 1);
    odd.set(bytes, 1);
    assertClose(toFloat32(odd.subarray(1), dtype as Dtype), values, 1e-7, dtype);
  }
});

testVariants("every format of ggml is decoded on the GPU, also below f16's normal numbers", async ({ gpu }) => {
  for (const { format, shape, bytes, values } of await matrices()) {
    const x = gpu.upload(bytes, shape, format), y = gpu.tensor(shape);
    castInto(gpu, x, y, gpu.clampCounter("ggml"));
    const decoded = await gpu.read(y), row = shape[1]!;
    // Rows differ in their size, and each counts.
    for (let at = 0; at < values.length; at += row) {
      assertClose(decoded.subarray(at, at + row), values.subarray(at, at + row), 2e-7, format.name);
    }
    for (const tensor of [x, y]) gpu.release(tensor);
  }
});

testVariants("products read formats of ggml", async ({ gpu, bound, name }) => {
  const all = await matrices();
  // Each takes seconds to compile on software adapters.
  const some = all.filter(({ dtype }) =>
    (name === "plain" ? ["Q5_0", "Q4_K"] : ["Q5_0", "Q4_K", "Q6_K"]).includes(dtype)
  );
  for (const { format, shape: [n, k], bytes, values } of some) {
    // Rows of four numbers are what the kernels for GPUs write.
    const rows = n! & ~3, x = randn(3 * k!, 1), w = gpu.upload(bytes, [n!, k!], format).rows(0, rows);
    const expected = Array.from(
      { length: 3 },
      (_, i) => [
        ...linearRow(
          Float64Array.from(x.subarray(i * k!, (i + 1) * k!)),
          values.subarray(0, rows * k!),
          new Float32Array(rows),
        ),
      ],
    );
    const input = gpu.upload(x, [3, k!]);
    assertClose(await gpu.read(linear(gpu, input, w)), expected.flat(), bound, format.name);
    gpu.release(input);
  }
});
