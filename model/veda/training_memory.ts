import { dryTwin } from "../../gpu/device/dry.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { WeightsPlace } from "../blocks/weights_place.ts";
import { lent } from "../estimate/clip_memory.ts";
import type { FamilyModel } from "../family.ts";
import { type LoadOptions, VideoPipeline } from "../pipeline.ts";
import type { SampledClip } from "../training/data/sampled_clip.ts";
import { observedAttention } from "./sampling_states.ts";
import { ScorerUpdates } from "./scorer_updates.ts";
import { TileParameters } from "./tile_parameters.ts";
import { TILE_RECIPE } from "./training_options.ts";

/**
 * Counts the memory of tile training on a device as this one: a denoising step that teaches a scorer, on a device that
 * computes nothing. Text is not encoded.
 *
 * @returns where weights are, and the bytes at the peak
 * @throws {TilereelError} if it does not fit the device's limit
 */
export async function tileTrainingMemory(
  gpu: Gpu,
  model: FamilyModel,
  clip: SampledClip,
  tileTokens: number,
  loading: Pick<LoadOptions, "weightDtype" | "weights"> = {},
): Promise<{ readonly place: WeightsPlace; readonly gpu: number }> {
  const dry = dryTwin(gpu), { shape, textDim, pooledDim, defaults: { textTokens } } = model;
  const pipeline = await VideoPipeline.of(lent(model), { ...loading, gpu: dry, clips: [clip] });
  try {
    using parameters = TileParameters.random(dry, shape, 0);
    using updates = new ScorerUpdates({ gpu: dry, shape, recipe: TILE_RECIPE, tileTokens, keep: 0.1 }, parameters);
    const zeros = (...shape: number[]) => ({ data: new Float32Array(shape.reduce((a, b) => a * b)), shape });
    const text = { text: zeros(1, textTokens, textDim), ...pooledDim && { pooled: zeros(1, pooledDim) } };
    const latents = await pipeline.sampleLatents({
      ...{ ...clip, prompt: "", negativePrompt: "", steps: 1, latents: zeros(...model.latentShape(clip)) },
      embeddings: { positive: text, ...pipeline.passes(clip.guidance).length > 1 && { negative: text } },
      attention: observedAttention((state) => {
        if (state.pass === 0) updates.record(state, 1);
      }),
    });
    dry.release(latents);
    return { place: pipeline.weights.place, gpu: dry.memory.peak };
  } finally {
    pipeline.close();
  }
}
