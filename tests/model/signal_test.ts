/** `signal` ends work on a clip in every stage: soon, with its reason, leaving nothing behind. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { onnxTextEncoder } from "../../model/onnx/text_encoder.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import type { GenerateOptions } from "../../model/pipeline.ts";
import type { OnProgress } from "../../mod.ts";
import { VIDEO_FORMATS, withFormat, writeVideo } from "../../model/video/write_video.ts";
import { movingShapes } from "../moving_shapes.ts";
import { inTempDir } from "../process.ts";
import { testPipeline } from "../test_pipeline.ts";

/** Three latent frames: software decodes them in three chunks, GPUs in two. */
const CLIP: GenerateOptions = {
  prompt: "a red circle",
  width: 32,
  height: 32,
  frames: 9,
  steps: 2,
  guidance: 1,
  seed: 3,
};

const STAGES = ["encode prompt", "denoise", "decode"];

/** What is reported, and a signal that fires at the report of that number. */
function abortingAt(report: number) {
  const told: string[] = [], controller = new AbortController(), reason = new Error(`at report ${report}`);
  const onProgress: OnProgress = ({ stage, done, total }) => {
    told.push(`${stage} ${done}/${total}`);
    if (told.length === report) controller.abort(reason);
  };
  return { told, reason, options: { onProgress, signal: controller.signal } };
}

async function rejectsWith(reason: unknown, work: () => Promise<unknown>, what: string): Promise<void> {
  const thrown = await work().then(() => "nothing: it resolved", (error) => error);
  assert(thrown === reason, `${what}: ${thrown} was thrown`);
}

for (
  const [name, options] of [
    ["on the GPU", {}],
    ["streamed, and a text encoder in ONNX", {
      weights: "stream",
      textEncoder: onnxTextEncoder(`${embeddedModelDir()}/text_encoder/model.onnx`),
    }],
  ] as const
) {
  testPipeline(`a clip can be aborted at every report of progress: weights ${name}`, async (pipeline, gpu) => {
    const whole = abortingAt(0);
    const { data } = await pipeline.generate({ ...CLIP, ...whole.options });
    for (const stage of STAGES) assert(whole.told.some((report) => report.startsWith(stage)), stage);
    const { used } = gpu.memory;
    for (let report = 1; report <= whole.told.length; report++) {
      const { told, reason, options } = abortingAt(report), at = whole.told[report - 1]!;
      await rejectsWith(reason, () => pipeline.generate({ ...CLIP, ...options }), at);
      assertEquals(told, whole.told.slice(0, report), at);
      assertEquals(gpu.memory.used, used, at);
    }
    assertEquals((await pipeline.generate(CLIP)).data, data);
    assertEquals(gpu.memory.used, used);
  }, options);
}

testPipeline("latents and embeddings, and what is aborted already", async (pipeline, gpu) => {
  gpu.release(await pipeline.sampleLatents(CLIP));
  const { used } = gpu.memory;
  const encode = async (options: Pick<GenerateOptions, "onProgress" | "signal">) =>
    (await pipeline.encodePrompts(["a red circle"], { textTokens: 16, ...options }))[0]!.text;
  const sample = (options: Pick<GenerateOptions, "onProgress" | "signal">) =>
    pipeline.sampleLatents({ ...CLIP, ...options });
  for (const [what, run] of Object.entries({ encode, sample })) {
    const whole = abortingAt(0);
    gpu.release(await run(whole.options));
    for (let report = 1; report <= whole.told.length; report++) {
      const { reason, options } = abortingAt(report);
      await rejectsWith(reason, () => run(options), `${what}, ${whole.told[report - 1]}`);
      assertEquals(gpu.memory.used, used, what);
    }
  }
  const onProgress = () => assert(false, "work was begun");
  const generate = (options: Pick<GenerateOptions, "onProgress" | "signal">) =>
    pipeline.generate({ ...CLIP, ...options });
  for (const run of [encode, sample, generate]) {
    await rejectsWith("why", () => run({ signal: AbortSignal.abort("why"), onProgress }), "aborted already");
  }
  await assertRejects(() => generate({ signal: AbortSignal.abort() }), DOMException, "abort");
  assertEquals(gpu.memory.used, used);
});

testPipeline("a signal that fires by itself, in the middle of a step or chunk", async (pipeline, gpu) => {
  await pipeline.generate(CLIP);
  const { used } = gpu.memory;
  for (const stage of STAGES) {
    const controller = new AbortController();
    const onProgress: OnProgress = (told) => {
      if (told.stage === stage && told.done === 0) setTimeout(() => controller.abort(stage));
    };
    await rejectsWith(stage, () => pipeline.generate({ ...CLIP, onProgress, signal: controller.signal }), stage);
    assertEquals(gpu.memory.used, used, stage);
  }
});

Deno.test("writeVideo can be aborted, and leaves nothing", async () => {
  const video = movingShapes(32, 32, 9);
  await inTempDir(async (dir) => {
    const path = (format: typeof VIDEO_FORMATS[number]) => withFormat(join(dir, "clip"), format);
    const left = () => [...Deno.readDirSync(dir)].map(({ name }) => name);
    for (const format of VIDEO_FORMATS) {
      const aborted = { signal: AbortSignal.abort("why") };
      await rejectsWith("why", () => writeVideo(path(format), video, aborted), `${format}, aborted already`);
      const controller = new AbortController();
      // It fires once the first file operation is waited for.
      const written = writeVideo(path(format), video, { signal: controller.signal });
      controller.abort("stop");
      await rejectsWith("stop", () => written, format);
      assertEquals(left(), [], format);
    }
    for (const frame of [1, 4, 9]) {
      const controller = new AbortController();
      const frames: number[] = [];
      const onProgress: OnProgress = ({ done }) => {
        frames.push(done);
        if (done === frame) controller.abort("stop");
      };
      const write = () => writeVideo(path("mp4"), video, { onProgress, signal: controller.signal });
      await rejectsWith("stop", write, `frame ${frame}`);
      // The first report has no frame yet, and none comes after the abort.
      assertEquals(frames, Array.from({ length: frame + 1 }, (_, done) => done));
      assertEquals(left(), []);
    }
    await writeVideo(path("mp4"), video);
    assertEquals(left(), ["clip.mp4"]);
  });
});
