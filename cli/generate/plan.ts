/**
 * Reads and checks everything that a command line asks for, before any model is loaded.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { openModelFolder } from "../../model/checkpoint/model_folder.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import {
  attentionOptions,
  type AttentionValues,
  type ReadyAttention,
  readyAttention,
} from "../../tools/program/clip/attention_options.ts";
import { stepsOf } from "../../model/schedulers/sigmas.ts";
import { batchOptions, type BatchValues } from "./batch_options.ts";
import { type Clip, planClips } from "./clip_plan.ts";
import { type ClipSettings, clipSettings } from "../../tools/program/clip/clip_settings.ts";
import type { GenerateValues } from "../commands/generate.ts";
import { modelIdentity } from "../../model/identity/model_identity.ts";
import { fileIdentity } from "../../model/identity/file_identity.ts";
import type { Array32, EmbeddingsFile } from "./tensor_files.ts";
import { readEmbeddings, readLatents } from "./tensor_files.ts";
import { DEFAULT_QUALITY } from "../../model/video/mp4.ts";
import { formatOf } from "../../model/video/write_video.ts";
import { plannedRecord } from "./clip_record.ts";
import { type Like, readLike } from "./like.ts";
import type { PlannedClip } from "./made_already.ts";

/** A clip with everything it is made with. */
export interface ReadyClip extends PlannedClip {
  readonly settings: ClipSettings;
  readonly attention: ReadyAttention;
  readonly quality: number | undefined;
}

/** The checked clips of one `generate` command, and how to run them. */
export interface Plan {
  readonly clips: readonly ReadyClip[];
  /** The options. Those of --like fill in where none are given. */
  readonly values: GenerateValues;
  readonly like: Like | undefined;
  readonly latents: Array32 | undefined;
  readonly embeddings: EmbeddingsFile | undefined;
}

/**
 * Plans a run.
 *
 * @throws {TilereelError} if options contradict one another, or a file cannot be used
 */
export async function planRun(given: GenerateValues, prompt: string | undefined): Promise<Plan> {
  stepsOf(given.sigmas, given.steps, 0);
  const like = given.like === undefined ? undefined : await readLike(given.like, {
    model: given.model,
    given: valuesOf(given, batchOptions),
    without: replacedFiles(given, prompt),
  });
  const values: GenerateValues = like === undefined ? given : {
    ...like.precision !== undefined && { precision: like.precision },
    ...like["weight-dtype"] !== undefined && { "weight-dtype": like["weight-dtype"] },
    ...like.files,
    ...given,
    ...like.model !== undefined && { model: like.model },
  };
  const { prompts, out, format, overwrite } = values;
  const ofClips: BatchValues = like?.values ?? valuesOf(values, batchOptions);
  const planned = await planClips({
    ...{ values: ofClips, prompts, out, format, overwrite },
    prompt: prompt ?? (prompts === undefined ? like?.prompt : undefined),
  });
  if (given.quality !== undefined && planned.every(({ out }) => formatOf(out) !== "mp4")) {
    throw new TilereelError("--quality has no effect if no MP4 is written: leave it out, or write an MP4");
  }
  return {
    clips: await readyClips(planned, values),
    ...{ values, like },
    latents: values.latents === undefined ? undefined : await readLatents(values.latents),
    embeddings: values.embeddings === undefined ? undefined : await readEmbeddings(values.embeddings),
  };
}

async function readyClips(planned: readonly Clip[], values: GenerateValues): Promise<ReadyClip[]> {
  const { model, embeddings, latents, "text-encoder": textEncoder, "weight-dtype": weightDtype } = values;
  const dir = model ?? embeddedModelDir(), folder = await openModelFolder(dir);
  using opened = await folder.family.open(folder);
  const identity = await modelIdentity(folder, { textEncoder, embeddings, weightDtype });
  const noise = await fileIdentity("latents", latents, "a safetensors file with start noise");
  /** Methods by their options: each is prepared once. */
  const attentions = new Map<string, Promise<ReadyAttention>>();
  return await Promise.all(planned.map(async (clip): Promise<ReadyClip> => {
    const asked: AttentionValues = valuesOf(clip.values, attentionOptions), key = JSON.stringify(asked);
    if (!attentions.has(key)) attentions.set(key, readyAttention(asked, dir));
    try {
      const attention = await attentions.get(key)!;
      const settings = clipSettings(clip, opened.defaults);
      const quality = formatOf(clip.out) === "mp4" ? clip.values.quality ?? DEFAULT_QUALITY : undefined;
      const record = plannedRecord({ settings, attention, model, identity, opened, quality, latents: noise });
      return { ...clip, settings, attention, quality, record };
    } catch (error) {
      if (!(error instanceof TilereelError) || clip.where === undefined) throw error;
      throw new TilereelError(`${clip.where}: ${error.message}`, { cause: error });
    }
  }));
}

/** Files of a record that options of the command line replace. */
function replacedFiles(given: GenerateValues, prompt: string | undefined): string[] {
  const { embeddings, latents, seed, count = 1, prompts, "text-encoder": textEncoder } = given;
  const isOther = prompt !== undefined || prompts !== undefined || given.negative !== undefined;
  return [
    ...latents !== undefined || seed !== undefined || count > 1 ? ["latents"] : [],
    ...embeddings !== undefined || textEncoder !== undefined || isOther ? ["embeddings"] : [],
    ...embeddings !== undefined || textEncoder !== undefined ? ["text-encoder"] : [],
  ];
}

/** The values among others that belong to the options of a table. */
function valuesOf<T extends Readonly<Record<string, unknown>>>(values: T, table: Readonly<Record<string, unknown>>): T {
  const own = Object.entries(values).filter(([key, value]) => Object.hasOwn(table, key) && value !== undefined);
  return Object.fromEntries(own) as T;
}
