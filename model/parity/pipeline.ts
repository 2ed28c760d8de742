/**
 * `demo_pipeline.safetensors`: a whole run from given noise, its latents after each step, and the video.
 *
 * @module
 */
import { WanPipeline } from "../pipeline.ts";
import { psnr } from "../quality.ts";
import { type Check, type ParityCase, References } from "./case.ts";
import { relativeError } from "./measures.ts";

const LATENTS_BOUND = 1e-3;
const VIDEO_BOUND = 50;

/** The whole pipeline, with the model under test. */
export const demoPipeline: ParityCase = {
  matches: /^demo_pipeline\.safetensors$/,
  async *run(path, { gpus: [gpu], model }): AsyncIterable<Check> {
    using references = await References.open(path);
    const start = references.source.info("latents.init");
    const [frames, height, width] = references.source.info("video").shape as [number, number, number];
    const pipeline = await WanPipeline.load(model, { gpu });
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
          const value = relativeError(await gpu.read(latents), await references.read(`latents.${step}`));
          checks.push({ name: `demo_pipeline latents.${step}`, value, unit: "relative", bound: LATENTS_BOUND });
        },
      });
      yield* checks;
      const expected = await references.source.read("video");
      yield { name: "demo_pipeline video", value: psnr(video.data, expected), unit: "dB", bound: VIDEO_BOUND };
    } finally {
      pipeline.close();
    }
  },
};
