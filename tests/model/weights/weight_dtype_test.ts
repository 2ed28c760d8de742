import { writeRandomCheckpoint } from "../../../bench/full_size/checkpoint.ts";
import { blockFormat } from "../../../gpu/formats/block_format.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { FORMATS } from "../../../gpu/formats/formats.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { castInto } from "../../../gpu/ops/cast.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import { TRANSFORMER_WEIGHTS } from "../../../model/wan/weights.ts";
import { readTransformerConfig } from "../../../model/wan/config.ts";
import { WanTransformer3DModel } from "../../../model/wan/transformer.ts";
import type { WeightsPlace } from "../../../model/blocks/weights_place.ts";
import {
  adjustedFormat,
  checkWeightDtype,
  matrixFormat,
  type MatrixUse,
  type WeightDtypeChoice,
} from "../../../model/weights/weight_dtype.ts";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { relativeError } from "../../../gpu/relative_error.ts";
import { randn, testVariants } from "../../gpu.ts";
import { inTempDir, tilereel } from "../../process.ts";

/** All kinds of f32: ties, what f16 holds as a subnormal or not at all, infinities, NaN. */
function difficult(): Float32Array<ArrayBuffer> {
  const f16 = new Float32Array(new Float16Array(Uint16Array.from({ length: 0x7c00 }, (_, i) => i).buffer));
  const ties = [...f16.slice(0, -1)].flatMap((a, i) => {
    const tie = (a + f16[i + 1]!) / 2, bits = new Uint32Array(Float32Array.of(tie).buffer)[0]!;
    const beside = new Float32Array(Uint32Array.of(bits - 1, bits + 1).buffer);
    return i % 17 === 0 || i < 40 || i > 0x7be0 ? [a, tie, ...beside] : [];
  });
  const far = [65504, 65519.99, 65520, 65535, 1e5, 3e38, Infinity, 2 ** -25, 2 ** -26, 1e-40, 0, NaN];
  const all = [...ties, ...far, ...randn(4000, 1), ...randn(4000, 2, 1e-5)];
  // An odd count: the last word has one number.
  return Float32Array.from([...all, ...all.map((v) => -v), 70000]);
}

/** The upper halves of f32s, to nearest, ties to even. */
function bf16Of(values: Float32Array<ArrayBuffer>): Uint16Array {
  return Uint16Array.from(new Uint32Array(values.buffer), (bits) => {
    const upper = bits >>> 16, rest = bits & 0xffff;
    if ((bits & 0x7fffffff) > 0x7f800000) return upper | 0x40;
    return upper + (rest > 0x8000 || rest === 0x8000 && upper % 2 === 1 ? 1 : 0);
  });
}

function f16Of(values: Float32Array): Uint16Array {
  const rounded = Float16Array.from(values, (v) => Math.abs(v) >= 65520 ? Math.sign(v) * 65504 : v);
  return new Uint16Array(rounded.buffer);
}

/** NaNs of any kind as one. */
const canonical = (halves: Uint16Array, infinity: number) =>
  [...halves].map((bits) => (bits & 0x7fff) > infinity ? NaN : bits);

testVariants("weights are cast to nearest, ties to even, and what f16 cannot hold is counted", async ({ gpu }) => {
  const values = difficult(), shape = [values.length], bf16 = bf16Of(values), f16 = f16Of(values);
  const widened = new Float32Array(Uint32Array.from(bf16, (bits) => bits << 16).buffer);
  const past = (numbers: Float32Array) => numbers.reduce((n, v) => n + (Math.abs(v) >= 65520 ? 1 : 0), 0);
  const cast = async (data: Float32Array | Uint8Array, from: "f32" | "bf16" | "f16", to: "bf16" | "f16") => {
    const x = gpu.upload(data, shape, from), y = gpu.tensor(shape, to);
    castInto(gpu, x, y, gpu.clampCounter(`${from} ${to}`));
    const halves = new Uint16Array(await gpu.readBytes(y));
    assertEquals(halves.length, values.length + 1);
    for (const tensor of [x, y]) gpu.release(tensor);
    return halves.slice(0, -1);
  };
  const bytes = (halves: Uint16Array) => new Uint8Array(halves.buffer);
  await gpu.takeClamped();
  assertEquals(canonical(await cast(values, "f32", "f16"), 0x7c00), canonical(f16, 0x7c00));
  assertEquals(canonical(await cast(values, "f32", "bf16"), 0x7f80), canonical(bf16, 0x7f80));
  assertEquals(canonical(await cast(bytes(bf16), "bf16", "f16"), 0x7c00), canonical(f16Of(widened), 0x7c00));
  const held = new Float32Array(new Float16Array(f16.buffer));
  assertEquals(canonical(await cast(bytes(f16), "f16", "bf16"), 0x7f80), canonical(bf16Of(held), 0x7f80));
  assertEquals(await gpu.takeClamped(), [
    { what: "f32 f16", count: past(values) },
    { what: "bf16 f16", count: past(widened) },
  ]);
  // Each name once, for streamed weights come again and again.
  await cast(values, "f32", "f16");
  assertEquals(await gpu.takeClamped(), []);
});

testVariants("what is added to weights is added before they are rounded", async ({ gpu }) => {
  for (const count of [1, 7, 4099]) {
    const values = Float32Array.from(randn(count, 3)),
      added = randn(count, 4),
      halves = new Uint8Array(bf16Of(values).buffer);
    const widened = new Float32Array(Uint32Array.from(bf16Of(values), (bits) => bits << 16).buffer);
    for (const [from, data, exact] of [["f32", values, values], ["bf16", halves, widened]] as const) {
      const sums = Float32Array.from(exact, (v, i) => v + added[i]!);
      for (const to of ["f32", "f16", "bf16"] as const) {
        const [x, y, more] = [gpu.upload(data, [count], from), gpu.tensor([count], to), gpu.upload(added, [count])];
        castInto(gpu, x, y, gpu.clampCounter("sum"), { added: more });
        const bytes = new Uint8Array(await gpu.readBytes(y)).slice(0, y.format.bytes(count));
        const expected = to === "f32" ? sums : to === "f16" ? f16Of(sums) : bf16Of(sums);
        assertEquals(bytes, new Uint8Array(expected.buffer as ArrayBuffer), `${from} to ${to}, ${count}`);
        for (const tensor of [x, y, more]) gpu.release(tensor);
      }
    }
  }
});

Deno.test("matrices that something is added to are rounded to their format, or widened", () => {
  const four = blockFormat({ name: "four", blockElements: 8, blockBytes: 4, element: "u32", four: () => "" });
  const { f32, f16, bf16 } = FORMATS;
  assertEquals([f32, f16, bf16, four].map((held) => adjustedFormat(held, false)), [f32, f16, bf16, f16]);
  assertEquals(adjustedFormat(four, true), f32);
});

Deno.test("auto casts f32 where operands are f16, and nothing else", () => {
  const dtypes = (f16: boolean, choice: WeightDtypeChoice, exact = false) =>
    (["F32", "F16", "BF16"] as const)
      .map((stored) => matrixFormat({ f16, int8: false }, stored, choice, { exact })).join(" ");
  assertEquals(dtypes(true, "auto"), "f16 f16 bf16");
  assertEquals(dtypes(true, "auto", true), "f32 f16 bf16");
  assertEquals(dtypes(false, "auto"), "f32 f16 bf16");
  for (const f16 of [true, false]) {
    assertEquals(dtypes(f16, "stored"), "f32 f16 bf16");
    assertEquals(dtypes(f16, "f16"), "f16 f16 f16");
    assertEquals(dtypes(f16, "bf16", true), "bf16 bf16 bf16");
  }
});

Deno.test("matrices that may be quantised are int8 where that is chosen, or where products are", () => {
  const dtypes = (int8: boolean, choice: WeightDtypeChoice, use: MatrixUse) =>
    (["F32", "BF16"] as const).map((stored) => matrixFormat({ f16: true, int8 }, stored, choice, use)).join(" ");
  assertEquals(dtypes(false, "int8", { quantised: true }), "i8 i8");
  assertEquals(dtypes(true, "auto", { quantised: true }), "i8 i8");
  for (const [int8, choice] of [[false, "int8"], [true, "auto"], [true, "int8"]] as const) {
    assertEquals(dtypes(int8, choice, {}), "f16 bf16");
    assertEquals(dtypes(int8, choice, { quantised: true, exact: true }), "f32 bf16");
  }
  assertEquals(dtypes(false, "auto", { quantised: true }), "f16 bf16");
  assertEquals(dtypes(false, "stored", { quantised: true }), "f32 bf16");
  const { i8 } = FORMATS;
  assertEquals([adjustedFormat(i8, false), adjustedFormat(i8, true)], [i8, i8]);
  for (const choice of ["auto", "int8", undefined] as const) checkWeightDtype({ f16: true, int8: true }, choice);
  for (const choice of ["stored", "f16", "bf16"] as const) {
    checkWeightDtype({ f16: true, int8: false }, choice);
    assertThrows(
      () => checkWeightDtype({ f16: true, int8: true }, choice),
      TilereelError,
      `the format of weights is ${choice}`,
    );
  }
});

const SMALL = {
  stored: "F32",
  transformer: { num_attention_heads: 2, attention_head_dim: 32, num_layers: 3, ffn_dim: 96, text_dim: 48 },
  vae: { base_dim: 8, num_res_blocks: 1 },
} as const;

/** What a transformer makes of two inputs, twice, and the bytes of its weights. */
async function predict(gpu: Gpu, dir: string, dtype: WeightDtypeChoice, place: WeightsPlace) {
  using source = await openCheckpoint(`${dir}/transformer`, "diffusion_pytorch_model");
  const config = await readTransformerConfig(`${dir}/transformer/config.json`), before = gpu.memory.used;
  const transformer = await WanTransformer3DModel.load(gpu, source, config, {
    ...{ place, dtype },
    quantised: TRANSFORMER_WEIGHTS.quantised,
  });
  const bytes = gpu.memory.used - before;
  const latents = gpu.upload(randn(16 * 3 * 2 * 2, 1), [1, 16, 3, 2, 2]);
  const texts = [2, 3].map((seed) => gpu.upload(randn(5 * 48, seed), [1, 5, 48]));
  const numbers: number[][] = [];
  for (let step = 0; step < 2; step++) {
    const inputs = texts.map((text) => ({ latents, timesteps: [500], conditioning: { text } }));
    for (const velocity of await transformer.predict(inputs)) {
      numbers.push([...await gpu.read(velocity)]);
      gpu.release(velocity);
    }
  }
  for (const tensor of [latents, ...texts]) gpu.release(tensor);
  transformer[Symbol.dispose]();
  return { numbers, bytes };
}

testVariants("F32 files: auto changes no number and halves what f16 needs, resident and streamed", async ({ gpu }) => {
  await inTempDir(async (dir) => {
    await writeRandomCheckpoint(dir, SMALL);
    const stored = await predict(gpu, dir, "stored", "resident");
    assert(stored.numbers[0]!.every(Number.isFinite));
    for (const place of ["resident", "stream"] as const) {
      const auto = await predict(gpu, dir, "auto", place);
      assertEquals(auto.numbers, stored.numbers, place);
      // Vectors stay f32.
      if (place === "resident") assert(gpu.f16 ? auto.bytes < 0.6 * stored.bytes : auto.bytes === stored.bytes);
      const bf16 = await predict(gpu, dir, "bf16", place);
      if (place === "resident") assert(bf16.bytes < 0.6 * stored.bytes);
      assert(bf16.numbers.join() !== stored.numbers.join());
      assertEquals(bf16.numbers.slice(2), bf16.numbers.slice(0, 2));
    }
  });
});

testVariants("int8 weights alone are decoded by all products, and are near to what is stored", async ({ gpu }) => {
  await inTempDir(async (dir) => {
    await writeRandomCheckpoint(dir, SMALL);
    const stored = await predict(gpu, dir, "stored", "resident");
    const resident = await predict(gpu, dir, "int8", "resident"), streamed = await predict(gpu, dir, "int8", "stream");
    assertEquals(streamed.numbers, resident.numbers);
    const errors = resident.numbers.map((numbers, i) => relativeError(numbers, stored.numbers[i]!));
    // Rounding to 1/254 of a row's largest number.
    assert(Math.max(...errors) < 0.02 && Math.min(...errors) > 1e-4, `relative errors ${errors}`);
    // The small weights outside the blocks stay as they are.
    assert(resident.bytes < 0.6 * stored.bytes, `${resident.bytes} of ${stored.bytes}`);
  });
});

testVariants("where weights go counts them as they are cast", async ({ gpu }) => {
  await inTempDir(async (dir) => {
    await writeRandomCheckpoint(dir, SMALL);
    const of = async (weightDtype: WeightDtypeChoice, weights: WeightsPlace) => {
      const pipeline = await VideoPipeline.load(dir, { gpu, weights, weightDtype });
      pipeline.close();
      return pipeline.weights;
    };
    const stored = await of("stored", "resident"),
      bf16 = await of("bf16", "resident"),
      auto = await of("auto", "resident");
    assertEquals([stored.stored, stored.held], [["F32"], ["f32"]]);
    assertEquals([bf16.stored, bf16.held], [["F32"], ["bf16"]]);
    assertEquals(auto.held, [gpu.f16 ? "f16" : "f32"]);
    const { bytes } = await predict(gpu, dir, "bf16", "resident");
    // Buffers are rounded up to 256 bytes.
    assert(bf16.bytes <= bytes && bf16.bytes > bytes - 256 * 100, `${bf16.bytes} of ${bytes}`);
    const int8 = await of("int8", "resident"), { bytes: held } = await predict(gpu, dir, "int8", "resident");
    assertEquals(int8.held, ["i8", gpu.f16 ? "f16" : "f32"]);
    assert(int8.bytes <= held && int8.bytes > held - 256 * 140, `${int8.bytes} of ${held}`);
    const streamed = await of("bf16", "stream");
    assert(streamed.bytes < bf16.bytes && streamed.bytes > 2 * bf16.bytes / 4);
  });
});

Deno.test("F32 files: info and generate say what becomes of them", async () => {
  await inTempDir(async (dir) => {
    await writeRandomCheckpoint(`${dir}/model`, SMALL);
    const info = async (...more: string[]) => {
      const { out } = await tilereel(["info", `${dir}/model`, "--json", ...more]);
      const [transformer, vae] = JSON.parse(out).model.components;
      assertEquals([transformer.name, transformer.dtypes, vae.onGpu.dtypes], ["transformer", ["F32"], ["f32"]]);
      return transformer.onGpu;
    };
    const [f32, bf16] = [await info("--precision", "f32"), await info("--weight-dtype", "bf16")];
    assertEquals([f32.dtypes, bf16.dtypes], [["f32"], ["bf16"]]);
    assert(bf16.bytes < 0.6 * f32.bytes && bf16.blockBytes < bf16.bytes / 3);
    const int8 = await info("--precision", "int8");
    assert(int8.dtypes[0] === "i8" && int8.bytes < 0.6 * f32.bytes, JSON.stringify(int8));
    const text = await tilereel(["info", `${dir}/model`, "--weight-dtype", "bf16"]);
    assert(/transformer .* F32 .* bf16, .* KiB, .* KiB a block/.test(text.out), text.out);
  });
});
