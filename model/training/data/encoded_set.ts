import { checkTrainable } from "../trainable.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { precisionName } from "../../../gpu/precision.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { openModelFolder } from "../../checkpoint/model_folder.ts";
import type { VideoVae } from "../../family.ts";
import { modelKey } from "../../identity/model_identity.ts";
import { loadedAs } from "../../model_variant.ts";
import type { Video } from "../../video/video.ts";
import { checkClip } from "../../video_size.ts";
import { openWeightOptions } from "../../weights/weight_options.ts";
import { cachedSet, type SetOptions, textGroups } from "./cached_set.ts";
import { embedTexts } from "./embed_texts.ts";
import type { Recipe } from "./latent_cache.ts";
import type { TrainingSample, TrainingSet } from "./training_set.ts";

/** A clip with its caption. */
export interface CaptionedClip {
  readonly caption: string;
  /** Identifies its frames: the file's path, size and age, and the size that frames are brought to. */
  readonly origin: Recipe;
  /** Its frames, of the requested size and number; undefined if it has too few and is to be left out. */
  read(): Promise<Video | undefined>;
}

/**
 * Latents of clips (the mean from the VAE's encoder, normalized as the transformer takes it) and embeddings of their
 * captions. VAE and text encoder are loaded if a sample is missing in the cache, and closed before this returns.
 *
 * @throws {TilereelError} if the model cannot be loaded, a clip does not fit it or the memory, or no clip gives a sample
 */
export async function encodedSet(clips: readonly CaptionedClip[], options: SetOptions): Promise<TrainingSet> {
  const { gpu, model, variant = {}, onProgress, signal } = options;
  const folder = await openModelFolder(model, variant.parts), key = await modelKey(folder, variant);
  checkTrainable(folder.family);
  const { textTokens } = folder.generation;
  const recipe = ({ caption, origin }: CaptionedClip): Recipe => ({
    ...origin,
    source: "encoded",
    model: key,
    precision: precisionName(gpu.settings),
    textTokens,
    caption,
  });
  async function* encode(clips: readonly CaptionedClip[], onStep: () => void) {
    const choices = loadedAs(variant), { textEncoder: openEncoder } = choices;
    using loaded = new DisposableStack();
    loaded.defer(() => gpu.trim());
    const opened = loaded.use(await folder.family.open(folder));
    const { of: weightOptions } = loaded.use(await openWeightOptions(gpu, folder.family, choices));
    const prompts = loaded.use(opened.promptEncoder(gpu, { openEncoder, weightOptions }));
    const vae = loaded.use(await opened.loadVae(gpu, "encoder", onProgress));
    onStep();
    for (const group of textGroups(clips)) {
      signal?.throwIfAborted();
      const captions = group.map(({ caption }) => caption), onProgress = onStep;
      const embed = (some: readonly string[]) => prompts.encode(some, textTokens, { onProgress });
      const conditioningOf = await embedTexts(gpu, captions, textTokens, embed);
      gpu.trim();
      for (const clip of group) {
        const video = await clip.read();
        if (video) checkClip(folder.family.multiples, video);
        yield video && { ...await encodeVideo(gpu, vae, video, onStep), conditioning: conditioningOf(clip.caption) };
      }
    }
  }
  const set = await cachedSet(clips, recipe, encode, options);
  if (set.size > 0) return set;
  throw new TilereelError("no clip is long enough: use fewer frames, or fewer frames per second");
}

/** The normalized mean of a clip's latents. */
async function encodeVideo(
  gpu: Gpu,
  vae: VideoVae,
  video: Video,
  onProgress: () => void,
): Promise<Omit<TrainingSample, "conditioning">> {
  const { width, height, frames } = video;
  using owned = new TensorOwner(gpu);
  // Room first: the numbers of a clip that is far too large would not even fit this machine's memory.
  const clip = owned.adopt(gpu.tensor([1, 3, frames, height, width], "f32", "the clip to encode"));
  for (let channel = 0; channel < 3; channel++) {
    const plane = channelOf(video, channel);
    gpu.write(clip, plane, channel * plane.byteLength);
  }
  const { mean, logvar } = await vae.encode(clip, { onProgress });
  owned.adopt([mean, logvar]);
  const normalized = owned.adopt(vae.normalize(mean));
  return { latents: await gpu.read(normalized), shape: normalized.shape };
}

/** One colour of all frames, [frames, height, width], within −1…1. */
function channelOf({ data }: Video, channel: number): Float32Array {
  const plane = new Float32Array(data.length / 3);
  for (let from = channel, to = 0; to < plane.length; from += 3) plane[to++] = data[from]! / 127.5 - 1;
  return plane;
}
