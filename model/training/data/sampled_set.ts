import { checkTrainable } from "../trainable.ts";
import { createHash } from "node:crypto";
import { precisionName } from "../../../gpu/precision.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { openModelFolder } from "../../checkpoint/model_folder.ts";
import { trainedFlowShift } from "../../checkpoint/trained_sizes.ts";
import { loadedAs } from "../../model_variant.ts";
import { VideoPipeline } from "../../pipeline.ts";
import { cachedSet, type SetOptions, textGroups } from "./cached_set.ts";
import type { Recipe } from "./latent_cache.ts";
import { modelKey } from "../../identity/model_identity.ts";
import { embedClips, type SampledClip } from "./sampled_clip.ts";
import type { TrainingSet } from "./training_set.ts";

/**
 * The seed of a prompt's start noise, from the seed of the training. It does not depend on the other prompts. So
 * prompts can be added to a file, or moved in it, and the samples of the others stay valid.
 *
 * @param occurrence how often the same prompt occurred before
 */
export function sampleSeed(trainingSeed: number, prompt: string, occurrence: number): number {
  return createHash("sha256").update(`${trainingSeed}\n${occurrence}\n${prompt}`).digest().readUInt32LE(0);
}

/**
 * Latents from the model's own sampling, with full attention, and the prompts' embeddings. The model is loaded if a
 * sample is missing in the cache, and closed before this returns.
 *
 * @throws {TilereelError} if the model cannot be loaded, or the settings do not fit it
 */
export async function sampledSet(clips: readonly SampledClip[], options: SetOptions): Promise<TrainingSet> {
  const { gpu, model, variant = {}, onProgress, signal } = options;
  const folder = await openModelFolder(model, variant.parts);
  checkTrainable(folder.family);
  const key = await modelKey(folder, variant);
  const recipe = (clip: SampledClip): Recipe => ({
    source: "sampled",
    model: key,
    precision: precisionName(gpu.settings),
    textTokens: folder.generation.textTokens,
    prompt: clip.prompt,
    negativePrompt: clip.guidance > 1 ? clip.negativePrompt : null,
    width: clip.width,
    height: clip.height,
    frames: clip.frames,
    steps: clip.steps,
    guidance: clip.guidance,
    seed: clip.seed,
    scheduler: clip.scheduler ?? null,
    flowShift: clip.flowShift ?? trainedFlowShift(folder.generation.trained, clip) ?? null,
    ...clip.sigmas !== undefined && { sigmas: String(clip.sigmas) },
  });
  async function* sample(clips: readonly SampledClip[], onStep: () => void) {
    using loaded = new DisposableStack();
    const pipeline = await VideoPipeline.load(model, { gpu, clips, onProgress, ...loadedAs(variant) });
    loaded.defer(() => pipeline.close());
    onStep();
    const told = { onProgress: onStep, ...signal && { signal } };
    for (const group of textGroups(clips)) {
      signal?.throwIfAborted();
      for (const clip of await embedClips(gpu, pipeline, group, told)) {
        using owned = new TensorOwner(gpu);
        const latents = owned.adopt(await pipeline.sampleLatents({ ...clip, ...told }));
        yield { latents: await gpu.read(latents), shape: latents.shape, conditioning: clip.embeddings.positive };
      }
    }
  }
  return await cachedSet(clips, recipe, sample, options);
}
