/**
 * `demo_pipeline.safetensors` and `demo_pipeline_small.safetensors`: whole runs from given noise, their latents after
 * each step, and the video.
 *
 * @module
 */
import { VideoPipeline } from "../pipeline.ts";
import { meanSquaredError, psnr, psnrOfError } from "../video/quality.ts";
import { latentsBounds, PIPELINE_BOUNDS } from "./bounds.ts";
import { type Check, compareRows, forwardName, type ParityCase, References } from "./case.ts";

/** The whole pipeline, with the model under test. */
export const demoPipeline: ParityCase = {
  matches: /^demo_pipeline(?:_small)?\.safetensors$/,
  async *run(path, { gpus, model }): AsyncIterable<Check> {
    using references = await References.open(path);
    const start = references.source.info("latents.init");
    const [frames, height, width] = references.source.info("video").shape as [number, number, number];
    const size = path.endsWith("_small.safetensors") ? "small" : "usual";
    for (const gpu of gpus) {
      // Minutes on a software adapter.
      if (gpu.f16 && gpu.settings.description.software && size !== "small") continue;
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
          onStep: async (latents, step) => {
            const name = forwardName(path, `latents.${step}`, gpu), row = references.row(`latents.${step}`);
            const numbers = await gpu.read(latents), expected = await references.read(`latents.${step}`);
            checks.push(...compareRows(name, gpu, latentsBounds(size, step), numbers, expected, row));
          },
        });
        yield* checks;
        const expected = await references.source.read("video"),
          [all, worst] = PIPELINE_BOUNDS[size].video[gpu.settings.precision];
        const name = forwardName(path, "video", gpu);
        yield { name, value: psnr(video.data, expected), unit: "dB", bound: all };
        yield {
          name: `${name}, worst row`,
          value: worstRow(video.data, expected, 3 * width),
          unit: "dB",
          bound: worst,
        };
      } finally {
        pipeline.close();
      }
    }
  },
};

/** PSNR of the row of pixels that is furthest off, in dB. */
function worstRow(out: Uint8Array, ref: Uint8Array, row: number): number {
  let worst = out.length === ref.length ? 0 : Infinity;
  for (let first = 0; first < ref.length; first += row) {
    worst = Math.max(worst, meanSquaredError(out.subarray(first, first + row), ref.subarray(first, first + row)));
  }
  return psnrOfError(worst);
}
