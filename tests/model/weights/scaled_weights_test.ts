import { assert, assertEquals, assertRejects } from "@std/assert";
import { writeRandomCheckpoint } from "../../../bench/full_size/checkpoint.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import type { WeightsPlace } from "../../../model/blocks/weights_place.ts";
import { elementCount, toFloat32 } from "../../../model/checkpoint/dtype.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { readFloat32, type TensorSource } from "../../../model/checkpoint/tensor_source.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { readTransformerConfig } from "../../../model/wan/config.ts";
import { WanTransformer3DModel } from "../../../model/wan/transformer.ts";
import { TRANSFORMER_WEIGHTS } from "../../../model/wan/weights.ts";
import { weightsOnGpu } from "../../../model/weights/weight_dtype.ts";
import { Weights } from "../../../model/weights/weights.ts";
import type { WeightOptions } from "../../../model/weights/weight_options.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { inTempDir } from "../../process.ts";

const SMALL = {
  stored: "F32",
  transformer: { num_attention_heads: 2, attention_head_dim: 32, num_layers: 2, ffn_dim: 96, text_dim: 48 },
  vae: { base_dim: 8, num_res_blocks: 1 },
} as const;

const scalar = (value: number, shape: number[] = []) =>
  ({ dtype: "F32", shape, data: Float32Array.of(value) }) as const;

/** Writes a transformer as ComfyUI's scaled fp8 has it, with both names of scales, and the numbers it stands for. */
async function writeBoth(dir: string): Promise<void> {
  await writeRandomCheckpoint(dir, SMALL);
  using source = await openPart(`${dir}/transformer`, TRANSFORMER_WEIGHTS);
  const widened: Record<string, TensorToWrite> = {};
  const scaled: Record<string, TensorToWrite> = { scaled_fp8: scalar(0) };
  for (const [i, name] of source.names().entries()) {
    const { shape } = source.info(name), count = elementCount(shape), layer = name.replace(/\.weight$/, "");
    if (shape.length < 2 || layer === name) {
      widened[name] = scaled[name] = { dtype: "F32", shape, data: await readFloat32(source, name) };
      continue;
    }
    // Numbers of all sizes up to 448, so that nothing near to right comes of leaving a scale out.
    const codes = Uint8Array.from(randn(count, i, 60), (v) => v & 0xff).map((code) =>
      (code & 0x7f) === 0x7f ? 0 : code
    );
    const rows = shape[0]!, perRow = i % 2 === 0;
    const scales = randn(rows, i + 1).map((v) => (1 + Math.abs(v)) * 3e-4).map((v, _, all) => perRow ? v : all[0]!);
    scaled[name] = { dtype: "F8_E4M3", shape, data: codes };
    if (perRow) scaled[`${layer}.weight_scale`] = { dtype: "F32", shape: [rows, 1], data: scales };
    else scaled[`${layer}.scale_weight`] = scalar(scales[0]!, i % 4 === 1 ? [] : [1]);
    scaled[`${layer}.scale_input`] = scalar(7);
    const data = toFloat32(codes, "F8_E4M3").map((v, at) => v * scales[Math.floor(at / count * rows)]!);
    widened[name] = { dtype: "F32", shape, data };
  }
  const comfy = Object.fromEntries(
    Object.entries(scaled).map(([name, data]) => [`model.diffusion_model.${name}`, data]),
  );
  for (const [name, tensors] of Object.entries({ widened, scaled: comfy })) {
    await writeSafetensors(`${dir}/${name}.safetensors`, tensors);
  }
}

/** What a transformer makes of two inputs, twice, and the bytes of its weights. */
async function predict(gpu: Gpu, dir: string, source: TensorSource, place: WeightsPlace, options: WeightOptions = {}) {
  const config = await readTransformerConfig(`${dir}/transformer/config.json`), before = gpu.memory.used;
  const transformer = await WanTransformer3DModel.load(gpu, source, config, { place, ...options });
  const bytes = gpu.memory.used - before;
  const latents = gpu.upload(randn(16 * 3 * 2 * 2, 1), [1, 16, 3, 2, 2]),
    text = gpu.upload(randn(5 * 48, 2), [1, 5, 48]);
  const numbers: number[] = [];
  for (let step = 0; step < 2; step++) {
    const [velocity] = await transformer.predict([{ latents, timesteps: [500], conditioning: { text } }]);
    numbers.push(...await gpu.read(velocity!));
    gpu.release(velocity!);
  }
  for (const tensor of [latents, text]) gpu.release(tensor);
  transformer[Symbol.dispose]();
  return { numbers, bytes };
}

testVariants("scaled fp8 gives what its numbers do, resident, streamed, cast and adjusted", async ({ gpu, bound }) => {
  await inTempDir(async (dir) => {
    await writeBoth(dir);
    using scaled = await openPart(`${dir}/scaled.safetensors`, TRANSFORMER_WEIGHTS);
    using widened = await openPart(`${dir}/widened.safetensors`, TRANSFORMER_WEIGHTS);
    assertEquals(scaled.names().sort(), widened.names().sort());
    const table = "proj_out.weight";
    assertClose(await readFloat32(scaled, table, [3, 0]), await readFloat32(widened, table, [3, 0]), 1e-7);
    using weights = new Weights(gpu, scaled);
    const vector = await weights.vector(table, scaled.info(table).shape);
    assertClose(await gpu.read(vector), await readFloat32(widened, table), 1e-7);

    const few = 5 * Math.max(1e-6, bound);
    const { numbers: expected } = await predict(gpu, dir, widened, "resident", { dtype: "stored" });
    assert(expected.every(Number.isFinite));
    for (const place of ["resident", "stream"] as const) {
      const { numbers, bytes } = await predict(gpu, dir, scaled, place);
      assertClose(numbers, expected, few, place);
      const infos = scaled.names().map((name) => scaled.info(name)), planned = weightsOnGpu(gpu, infos, {});
      assertEquals([planned.stored, planned.held], [["F8_E4M3"], ["f8_e4m3"]]);
      // Buffers are rounded up to 256 bytes.
      const buffers = infos.length + infos.filter(({ scale }) => scale).length;
      if (place === "resident") assert(planned.bytes <= bytes && bytes < planned.bytes + 256 * buffers);
      // A cast multiplies by the scales.
      assertClose((await predict(gpu, dir, scaled, place, { dtype: "f16" })).numbers, expected, 2e-2, `${place}, f16`);
      // What is added makes the matrix f16, without a scale.
      const adjust = {
        ...{ path: "", held: 0, bytes: 0, names: [] },
        of: (name: string) => {
          if (!name.endsWith(".attn1.to_q.weight")) return undefined;
          return { rows: (_: number, count: number) => gpu.upload(new Float32Array(count * 64), [count, 64]) };
        },
      };
      assertClose((await predict(gpu, dir, scaled, place, { adjust })).numbers, expected, 2e-2, `${place}, adjusted`);
    }
  });
});

Deno.test("scales are hidden beside their matrices under the family's names, and must fit them", () =>
  inTempDir(async (dir) => {
    const path = `${dir}/x.safetensors`, names = (name: string) => name.replace("self_attn", "attn1");
    const matrix = { dtype: "F8_E5M2", shape: [2, 4], data: new Uint8Array(8).fill(0x3c) } as const;
    const open = () => openPart(path, { stem: "", names });
    await writeSafetensors(path, {
      "self_attn.q.weight": matrix,
      "self_attn.q.weight_scale": { dtype: "F32", shape: [2], data: Float32Array.of(2, 3) },
      "self_attn.q.comfy_quant": { dtype: "U8", shape: [2], data: new Uint8Array(2) },
      "lone.scale_weight": scalar(5),
    });
    using part = await open();
    assertEquals(part.names().sort(), ["attn1.q.weight", "lone.scale_weight"]);
    assertEquals([part.has("attn1.q.weight_scale"), part.has("self_attn.q.weight_scale")], [false, false]);
    assertEquals([...await readFloat32(part, "attn1.q.weight")], [2, 2, 2, 2, 3, 3, 3, 3]);
    assertEquals([...await readFloat32(part, "attn1.q.weight", [1])], [3, 3, 3, 3]);

    for (const shape of [[4], [2, 2]]) {
      const data = new Float32Array(4);
      await writeSafetensors(path, { "q.weight": matrix, "q.scale_weight": { dtype: "F32", shape, data } });
      await assertRejects(open, TilereelError, "one number or one for each row of [2, 4] was expected");
    }
  }));
