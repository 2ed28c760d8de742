import type { Gpu } from "../gpu/gpu.ts";
import { PlacedTransformer } from "./blocks/placed_transformer.ts";
import { placeWeights } from "./blocks/weights_place.ts";
import { cacheBytes } from "./cache/step_cache.ts";
import type { FamilyModel } from "./family.ts";
import type { ClipToCome, LoadOptions } from "./pipeline.ts";
import { checkClip } from "./video_size.ts";
import type { WeightOptionsOf } from "./weights/weight_options.ts";

/**
 * The most bytes that denoising one of these clips needs beside resident weights.
 *
 * @throws {TilereelError} if the model cannot make a clip of such a size
 */
export function denoisingWork(gpu: Gpu, model: FamilyModel, clips: readonly ClipToCome[] | undefined): number {
  const all = (clips?.length ? clips : [{}]).map((given: ClipToCome) => {
    const clip = { ...model.defaults, ...given };
    checkClip(model.family.multiples, clip);
    return model.denoisingBytes(gpu, clip) + cacheBytes(given.cache, model, clip, clip.guidance, gpu.f16);
  });
  return Math.max(...all);
}

/**
 * Loads a model's transformer, whose blocks are placed where they fit beside the work.
 *
 * @param work as {@link denoisingWork} gives it
 * @throws {TilereelError} if a weight is missing or does not fit, or memory runs out
 */
export async function loadTransformer(
  model: FamilyModel,
  weightOptions: WeightOptionsOf,
  work: number,
  { gpu, weights: choice = "auto", onProgress }: Pick<LoadOptions, "gpu" | "weights" | "onProgress">,
): Promise<PlacedTransformer> {
  const loading = weightOptions("transformer"), lowNoise = weightOptions("transformer_2");
  return await PlacedTransformer.load(gpu, {
    choice,
    placed: (choice) => placeWeights(gpu, model, work, choice, loading),
    load: (place) => model.loadTransformer(gpu, { place, onProgress, ...loading, lowNoise }),
  });
}
