import type { Gpu } from "../../gpu/gpu.ts";
import { type GenerateOptions, VideoPipeline } from "../pipeline.ts";
import { meanSquaredError, psnr, psnrOfError } from "../video/quality.ts";
import { latentsBounds, PIPELINE_BOUNDS } from "./bounds.ts";
import { type Check, Checks, type ParityCase, References } from "./case.ts";

/**
 * `demo_pipeline.safetensors` and `demo_pipeline_small.safetensors`: whole runs of the model under test from given
 * noise, their latents after each step, and the video.
 */
export const demoPipeline: ParityCase = {
  matches: /^demo_pipeline(?:_small)?\.safetensors$/,
  async *run(path, { gpus, model }): AsyncIterable<Check> {
    using references = await References.open(path);
    const size = path.endsWith("_small.safetensors") ? "small" : "usual";
    for (const gpu of gpus) {
      // Minutes on a software adapter.
      if (gpu.f16 && gpu.settings.description.software && size !== "small") continue;
      yield* wholeRun(gpu, model, references, new Checks(path, gpu, references), size);
    }
  },
};

/** Makes the clip of a whole run from its prompt, and compares its latents after each step and the video. */
export async function* wholeRun(
  gpu: Gpu,
  model: string,
  references: References,
  check: Checks,
  bounds: keyof typeof PIPELINE_BOUNDS,
  more: Pick<GenerateOptions, "image" | "lastImage" | "embeddings" | "guidanceLow"> = {},
): AsyncIterable<Check> {
  const start = references.source.info("latents.init");
  const [frames, height, width] = references.source.info("video").shape as [number, number, number];
  const pipeline = await VideoPipeline.load(model, { gpu });
  const checks: Check[] = [];
  try {
    const video = await pipeline.generate({
      prompt: references.setting("prompt"),
      steps: references.setting("steps"),
      guidance: references.setting("guidance_scale"),
      textTokens: references.setting("max_sequence_length"),
      latents: { data: await references.read("latents.init"), shape: start.shape },
      frames,
      height,
      width,
      ...more,
      onStep: async (latents, step) => {
        checks.push(...await Array.fromAsync(check.rows(`latents.${step}`, latentsBounds(bounds, step), latents)));
      },
    });
    yield* checks;
    const expected = await references.source.read("video");
    const [all, worst] = PIPELINE_BOUNDS[bounds].video[gpu.settings.precision];
    yield check.error("video", all, psnr(video.data, expected), "dB");
    yield check.error("video, worst row", worst, worstRow(video.data, expected, 3 * width), "dB");
  } finally {
    pipeline.close();
  }
}

/** PSNR of the row of pixels that is furthest off, in dB. */
function worstRow(out: Uint8Array, ref: Uint8Array, row: number): number {
  let worst = out.length === ref.length ? 0 : Infinity;
  for (let first = 0; first < ref.length; first += row) {
    worst = Math.max(worst, meanSquaredError(out.subarray(first, first + row), ref.subarray(first, first + row)));
  }
  return psnrOfError(worst);
}
