import { assert, assertEquals, assertRejects } from "@std/assert";
import { drySource } from "../../../bench/full_size/made_source.ts";
import { SHAPES } from "../../../bench/shapes.ts";
import { OutOfMemoryError } from "../../../gpu/common/errors.ts";
import { Gpu } from "../../../gpu/gpu.ts";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../../gpu/device/dry.ts";
import { embeddedModelDir } from "../../../model/embedded.ts";
import { openModel } from "../../../model/checkpoint/model_folder.ts";
import { peakOf } from "../../../model/estimate/clip_memory.ts";
import { checkFits, count } from "../../../model/estimate/what_fits.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import { testOnGpu } from "../../gpu.ts";

const P480 = { width: 832, height: 480, frames: 81 };
const MATRIX = { precision: "f16", matrixUnits: NVIDIA_MATRIX_UNITS } as const;

/** What is said of a clip. */
async function said(
  name: keyof typeof SHAPES,
  clip: typeof P480,
  device: Parameters<typeof dryGpu>[0],
): Promise<string> {
  const model = SHAPES[name].model(drySource, { stored: "F32" });
  return await checkFits(dryGpu(device), model, { clips: [clip] }).catch((error) => {
    assert(error instanceof OutOfMemoryError);
    return error.message;
  }) ?? "";
}

Deno.test("what fits: nothing is said of what fits, also streamed and in tiles", async () => {
  assertEquals(await said("1.3b", P480, { ...MATRIX, memoryLimit: 6e9 }), "");
  assertEquals(await said("1.3b", P480, { memoryLimit: 4e9 }), "");
  assertEquals(await said("14b", P480, { ...MATRIX, int8: true, memoryLimit: 12e9 }), "");
});

Deno.test("what fits: without a limit, memory beyond what plans assume is said", async () => {
  const note = await said("14b", { ...P480, width: 1280, height: 720 }, MATRIX);
  assert(
    /^a clip of 1280x720 with 81 frames takes up to [\d.]+ GiB of GPU memory here; if the GPU has less/.test(note),
    note,
  );
});

Deno.test("what fits: a clip that does not is refused with settings that do", async () => {
  const message = await said("14b", P480, { ...MATRIX, memoryLimit: 5e9 });
  const [, stage, fitting] =
    /^a clip of 832x480 with 81 frames does not fit a limit of 4.66 GiB of GPU memory while it is (\w+): it fits (.*)$/
      .exec(message) ?? [];
  assertEquals(stage, "denoised", message);
  const frames = Number(/with (\d+) frames/.exec(fitting!)?.[1]);
  const [width, height] = /at (\d+)x(\d+)/.exec(fitting!)!.slice(1).map(Number) as [number, number];
  assert(frames < 81 && width < 832, message);
  // They hold what they promise.
  const limited = { ...MATRIX, memoryLimit: 5e9 };
  assertEquals(await said("14b", { ...P480, frames }, limited), "");
  assertEquals(await said("14b", { ...P480, width, height }, limited), "");
  assert(/, or with a limit of [\d.]+ GiB$/.test(message), message);
});

Deno.test("what fits: pictures, two transformers and Wan 2.2's decoder are counted", async () => {
  const of = async (name: "i2v-a14b" | "ti2v-5b", pictures: boolean) => {
    const model = SHAPES[name].model(drySource), { width, height, frames } = model.defaults;
    const { peaks } = await count(dryGpu(MATRIX), model, { ...{ width, height, frames, pictures }, weights: "stream" });
    return peaks.load.held;
  };
  // 5B can do without a picture; A14B cannot, and holds two blocks of its transformer at that time.
  const [without, with_, required] = [
    await of("ti2v-5b", false),
    await of("ti2v-5b", true),
    await of("i2v-a14b", false),
  ];
  assert(without < 3e9 && with_ > 2 * without && required > 3e9, `${without}, ${with_}, ${required}`);
});

testOnGpu("what fits: memory is counted as the device then takes it", async (gpu) => {
  using model = await openModel(embeddedModelDir());
  const clip = { width: 64, height: 64, frames: 9, guidance: 4 };
  gpu.poison = false;
  const counted = await count(gpu, model, clip);
  const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu });
  await pipeline.generate({ ...clip, prompt: "a red circle", steps: 3 });
  pipeline.close();
  const error = Math.abs(gpu.memory.peak / peakOf(counted) - 1);
  assert(error < 0.02, `${gpu.memory.peak} of ${peakOf(counted)}`);
  const scarce = new Gpu(gpu.device, { ...gpu.settings, memoryLimit: 20e6 });
  await assertRejects(
    () => checkFits(scarce, model, { clips: [clip] }),
    OutOfMemoryError,
    "does not fit a limit of 19.1 MiB",
  );
});
