/**
 * Training on clips: their latents from the VAE, and embeddings of their captions.
 *
 * @module
 */
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { loadedAs, type ModelVariant } from "../../model_variant.ts";
import { type ModelFolder, openModelFolder } from "../../checkpoint/model_folder.ts";
import type { OnProgress } from "../../progress.ts";
import type { FamilyModel, PromptEncoder, VideoVae } from "../../family.ts";
import { checkClip } from "../../video_size.ts";
import type { Video } from "../../video/video.ts";
import { cachedSet, type Maker, type SetOptions } from "./cached_set.ts";
import { embedTexts } from "./embed_texts.ts";
import type { Recipe } from "./latent_cache.ts";
import { modelKey } from "../../identity/model_identity.ts";
import { openWeightOptions } from "../../weights/weight_options.ts";
import { readAndRelease } from "./read_and_release.ts";
import type { TrainingSample, TrainingSet } from "./training_set.ts";

/** A clip with its caption. */
export interface CaptionedClip {
  readonly caption: string;
  /**
   * Identifies its frames: the file's path, size and age, and the size that frames are brought to.
   */
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
  const { gpu, model, variant = {}, cache, onProgress, signal } = options;
  const folder = await openModelFolder(model, variant.parts);
  const { textTokens } = folder.generation;
  const key = await modelKey(folder, variant);
  const recipe = ({ caption, origin }: CaptionedClip): Recipe => ({
    ...origin,
    source: "encoded",
    model: key,
    precision: gpu.settings.precision,
    textTokens,
    caption,
  });
  const open = () => ClipEncoder.load(gpu, folder, variant, onProgress);
  const set = await cachedSet(clips, { cache, recipe, open, onProgress, signal });
  if (set.size > 0) return set;
  throw new TilereelError("no clip is long enough: use fewer frames, or fewer frames per second");
}

class ClipEncoder implements Maker<CaptionedClip> {
  private constructor(
    private readonly gpu: Gpu,
    private readonly model: FamilyModel,
    private readonly prompts: PromptEncoder,
    private readonly vae: VideoVae,
    private readonly owned: DisposableStack,
  ) {}

  static async load(
    gpu: Gpu,
    folder: ModelFolder,
    variant: ModelVariant,
    onProgress: OnProgress | undefined,
  ): Promise<ClipEncoder> {
    using opened = new DisposableStack();
    const model = opened.use(await folder.family.open(folder));
    const { textEncoder: openEncoder, ...choices } = loadedAs(variant);
    const { of: weightOptions } = opened.use(await openWeightOptions(gpu, folder.family, choices));
    const prompts = opened.use(model.promptEncoder(gpu, { openEncoder, weightOptions }));
    const vae = opened.use(await model.loadVae(gpu, "encoder", onProgress));
    return new ClipEncoder(gpu, model, prompts, vae, opened.move());
  }

  async *make(clips: readonly CaptionedClip[], onStep: () => void): AsyncIterable<TrainingSample | undefined> {
    const { gpu, prompts, model: { defaults: { textTokens } } } = this;
    const conditioningOf = await embedTexts(
      gpu,
      clips.map(({ caption }) => caption),
      textTokens,
      (some) => prompts.encode(some, textTokens, { onProgress: onStep }),
    );
    gpu.trim();
    for (const clip of clips) {
      const video = await clip.read();
      if (!video) {
        yield undefined;
        continue;
      }
      const latents = await this.#encode(video, onStep);
      yield { ...latents, conditioning: conditioningOf(clip.caption) };
    }
  }

  /** The normalized mean of a clip's latents. */
  async #encode(video: Video, onStep: () => void): Promise<Pick<TrainingSample, "latents" | "shape">> {
    const { gpu, vae, model } = this, { width, height, frames } = video;
    checkClip(model.family.multiples, video);
    // The memory is checked first: the numbers of a clip that is far too large would not even fit this machine's
    // memory.
    const clip = gpu.tensor([1, 3, frames, height, width], "f32", "the clip to encode");
    try {
      for (let channel = 0; channel < 3; channel++) {
        const plane = channelOf(video, channel);
        gpu.write(clip, plane, channel * plane.byteLength);
      }
      const { mean, logvar } = await vae.encode(clip, { onProgress: onStep });
      gpu.release(logvar);
      const normalized = vae.normalize(mean);
      gpu.release(mean);
      const { shape } = normalized;
      return { latents: await readAndRelease(gpu, normalized), shape };
    } finally {
      gpu.release(clip);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.owned.dispose();
    this.gpu.trim();
    return Promise.resolve();
  }
}

/** One colour of all frames, [frames, height, width], within −1…1. */
function channelOf({ data }: Video, channel: number): Float32Array {
  const plane = new Float32Array(data.length / 3);
  for (let from = channel, to = 0; to < plane.length; from += 3) plane[to++] = data[from]! / 127.5 - 1;
  return plane;
}
