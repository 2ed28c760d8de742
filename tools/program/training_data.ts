/**
 * What a router is trained on: `--prompts FILE` or `--data DIR`, as samples.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { openModelFolder } from "../../model/checkpoint/model_folder.ts";
import type { OnProgress } from "../../model/progress.ts";
import { type CaptionedClip, encodedSet } from "../../model/training/data/encoded_set.ts";
import { LatentCache, type Recipe } from "../../model/training/data/latent_cache.ts";
import { type SampledClip, sampledSet, sampleSeed } from "../../model/training/data/sampled_set.ts";
import { stepsOf } from "../../model/schedulers/sigmas.ts";
import type { TrainingSet } from "../../model/training/data/training_set.ts";
import { checkFrames, checkSize } from "../../model/video_size.ts";
import type { WeightDtypeChoice } from "../../model/weight_dtype.ts";
import type { ClipValues } from "./clip/clip_options.ts";
import { overlay } from "./clip/clip_settings.ts";
import { readPrompts } from "./clip/prompts_file.ts";
import { type ClipOnDisk, findClips } from "../../model/training/data/clip_folder.ts";
import { frameNames } from "../../model/video/read/frame_folder.ts";
import { type ClipShape, ClipTooShort, readClip } from "../../model/video/read/read_clip.ts";

/** What {@link openTrainingSet} takes. */
export interface TrainingDataOptions {
  readonly gpu: Gpu;
  /** Folder of the model that is trained for. */
  readonly model: string;
  /** An ONNX file to run as the text encoder instead of the model's own. */
  readonly textEncoder?: string | undefined;
  /** In which format the GPU holds matrices. Default: "auto". */
  readonly weightDtype?: WeightDtypeChoice | undefined;
  /** A file of prompts; or … */
  readonly prompts?: string | undefined;
  /** … a folder of clips with captions. One of the two. */
  readonly data?: string | undefined;
  /**
   * Size, frames and, for prompts, how they are sampled; the model's defaults where nothing is said. Lines of a prompts
   * file may say otherwise. `steps` are those of sampling. For clips: size, frames and fps.
   */
  readonly values: ClipValues;
  /** Seed of the training, from which those of the prompts are derived. */
  readonly seed: number;
  /** Folder where samples are kept; made where there is none. */
  readonly cache: string;
  /** Called with the progress of "check latents" and, if some are missing, of "load …" and "make latents". */
  readonly onProgress?: OnProgress | undefined;
  /** Told, in a sentence each, of clips that are left out and of samples that had to be made again. */
  readonly onNote: (note: string) => void;
  /** Ends the making between two samples or two steps; what was made stays in the cache. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens what is trained on. Samples that are not in the cache are made now, all of them, with a copy of the model that
 * is loaded for that and let go again: call this before the transformer that is trained is loaded. Where none is
 * missing, nothing is loaded. Order and samples are the same in every call with the same options.
 *
 * ```ts
 * const set = await openTrainingSet({ gpu, model, prompts, data, values: { size, frames }, seed, cache, onNote });
 * for (let i = 0; i < set.size; i++) await set.sample(i);
 * ```
 *
 * @throws {TilereelError} when prompts or clips cannot be read, do not fit the model, or there are none
 * @throws the signal's reason, if it is aborted
 */
export async function openTrainingSet(options: TrainingDataOptions): Promise<TrainingSet> {
  const { prompts, data, onNote } = options;
  if ((prompts === undefined) === (data === undefined)) {
    throw new TilereelError(
      `give ${data === undefined ? "" : "only one of "}--prompts FILE, whose clips the model makes itself, ` +
        `or --data DIR, a folder of clips with captions`,
    );
  }
  // Whatever is wrong with them is found before the cache is made.
  const clips = prompts === undefined
    ? await clipsOnDisk(data!, options)
    : { sampled: await clipsOfPrompts(prompts, options) };
  const making = { ...options, cache: await LatentCache.open(options.cache, onNote) };
  const set = "sampled" in clips ? await sampledSet(clips.sampled, making) : await encodedSet(clips.encoded, making);
  if (set.size > 0) return set;
  throw new TilereelError(
    `--data ${data} holds no clip that is long enough: ask for fewer frames with --frames, or for fewer a second ` +
      `with --fps`,
  );
}

/**
 * The prompts of a file with their settings. Where a line says the seed, that is it. Places to write to do not count.
 *
 * @throws {TilereelError} if the file cannot be read or a line is wrong
 */
export async function clipsOfPrompts(
  path: string,
  { model, values, seed }: Pick<TrainingDataOptions, "model" | "values" | "seed">,
): Promise<SampledClip[]> {
  const { generation } = await openModelFolder(model);
  const times = new Map<string, number>();
  return (await readPrompts(path)).map((entry): SampledClip => {
    const { prompt } = entry, given = overlay(values, entry.values);
    if (prompt.trim() === "") throw new TilereelError(`${path} line ${entry.line}: the prompt is empty`);
    const occurrence = times.get(prompt) ?? 0;
    times.set(prompt, occurrence + 1);
    return {
      prompt,
      negativePrompt: given.negative ?? "",
      width: given.size?.width ?? generation.width,
      height: given.size?.height ?? generation.height,
      frames: given.frames ?? generation.frames,
      steps: stepsOf(given.sigmas, given.steps, generation.steps),
      guidance: given.guidance ?? generation.guidance,
      seed: entry.values.seed ?? sampleSeed(seed, prompt, occurrence),
      scheduler: given.scheduler,
      flowShift: given["flow-shift"],
      sigmas: given.sigmas,
    };
  });
}

/** The clips of a folder. Those that turn out too short are left out, with a note. */
async function clipsOnDisk(
  folder: string,
  { model, values, onNote }: TrainingDataOptions,
): Promise<{ encoded: CaptionedClip[] }> {
  const { generation } = await openModelFolder(model);
  const shape: ClipShape = {
    width: values.size?.width ?? generation.width,
    height: values.size?.height ?? generation.height,
    frames: values.frames ?? generation.frames,
    fps: values.fps ?? generation.fps,
  };
  checkSize(shape.width, shape.height);
  checkFrames(shape.frames);
  const clips = await findClips(folder);
  const encoded = await Promise.all(clips.map(async ({ path, caption }): Promise<CaptionedClip> => ({
    caption,
    origin: { ...shape, ...await originOf(path) },
    read: async () => {
      try {
        return await readClip(path, shape);
      } catch (error) {
        if (!(error instanceof ClipTooShort)) throw error;
        onNote(`${error.message}; it is left out`);
        return undefined;
      }
    },
  })));
  return { encoded };
}

/** Where a clip lies, and the size and age of its file, or of all its frames. */
async function originOf(path: ClipOnDisk["path"]): Promise<Recipe> {
  const files = (await Deno.stat(path)).isDirectory ? (await frameNames(path)).map((name) => join(path, name)) : [path];
  const stats = await Promise.all(files.map((file) => Deno.stat(file)));
  return {
    path: resolve(path),
    files: files.length,
    bytes: stats.reduce((sum, { size }) => sum + size, 0),
    changed: Math.max(...stats.map(({ mtime }) => mtime?.getTime() ?? 0)),
  };
}
