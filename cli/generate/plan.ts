import { TilereelError } from "../../gpu/common/errors.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import type { FamilyModel } from "../../model/family.ts";
import {
  methodOptions,
  type MethodValues,
  type ReadyMethods,
  readyMethods,
} from "../../tools/program/clip/method_options.ts";
import { type ReadyImages, readyImages } from "../../tools/program/ready_images.ts";
import { createScheduler } from "../../model/schedulers/scheduler.ts";
import { stepsOf } from "../../model/schedulers/sigmas.ts";
import { batchOptions, type BatchValues } from "../../tools/program/clip/batch_options.ts";
import { type Clip, planClips } from "./clip_plan.ts";
import { type ClipSettings, clipSettings, optionName } from "../../tools/program/clip/clip_settings.ts";
import type { GenerateValues } from "../commands/generate.ts";
import { openNamedFolder, variantOf } from "../../tools/program/model_options.ts";
import { modelIdentity } from "../../model/identity/model_identity.ts";
import { fileIdentity } from "../../model/identity/file_identity.ts";
import type { GenerateOptions } from "../../model/pipeline.ts";
import { readEmbeddings, readLatents } from "./tensor_files.ts";
import { DEFAULT_QUALITY } from "../../model/video/mp4.ts";
import { formatOf } from "../../model/video/write_video.ts";
import { checkClip } from "../../model/video_size.ts";
import { plannedRecord, type RecordParts } from "../../tools/program/clip/record.ts";
import { FILE_KEYS } from "./clip_record.ts";
import { type Like, readLike } from "./like.ts";
import { flowShiftNote, valuesLike } from "./like_flow_shift.ts";
import type { PlannedClip } from "./made_already.ts";
import { type ChosenShard, chosenShard, shareOf } from "../shards/shard.ts";
import { withUnfinishedSeed } from "./unfinished.ts";
import type { WorkshopValues } from "./workshop.ts";

/**
 * A clip with everything it is made with. Its methods have functions, so it cannot be posted to a worker: post the
 * {@link Clip}, and call {@link PlanningModel.ready} there, too.
 */
export interface ReadyClip extends PlannedClip {
  readonly settings: ClipSettings;
  readonly methods: ReadyMethods;
  readonly images: ReadyImages;
  readonly quality: number | undefined;
}

/** The checked clips of one `generate` command, and how to run them. */
export interface Plan {
  readonly clips: readonly ReadyClip[];
  /** All clips of the batch that these are a part of: memory is planned for them, so that it is the same in all parts. */
  readonly batch: readonly ReadyClip[];
  /** The part. */
  readonly shard: ChosenShard | undefined;
  /** Clauses on what may surprise. */
  readonly notes: readonly string[];
  /** The options. Those of --like fill in where none are given. */
  readonly values: GenerateValues;
  readonly like: Like | undefined;
  /** Those that files have. */
  readonly tensors: Pick<GenerateOptions, "latents" | "embeddings">;
}

/**
 * Reads and checks everything that a command line asks for, before any model is loaded.
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
    ...like.options,
    ...given,
    ...like.model !== undefined && { model: like.model },
  };
  const { prompts, out, format, overwrite } = values;
  using model = await PlanningModel.open(values);
  const ofClips: BatchValues = like ? valuesLike(like, model.model) : valuesOf(values, batchOptions);
  const planned = await planClips({
    ...{ values: ofClips, prompts, out, format, overwrite },
    prompt: prompt ?? (prompts === undefined ? like?.prompt : undefined),
  });
  if (given.quality !== undefined && planned.every(({ out }) => formatOf(out) !== "mp4")) {
    throw new TilereelError("--quality has no effect if no MP4 is written: leave it out, or write an MP4");
  }
  const { seed, latents } = values, isFree = seed === undefined && latents === undefined && prompts === undefined;
  const goesOn = planned.length === 1 && isFree && ofClips.seed === undefined && !values["no-resume"];
  const ready = (clip: Clip) => model.ready(clip);
  const batch = await Promise.all(planned.map((clip) => goesOn ? withUnfinishedSeed(clip, ready) : ready(clip)));
  const shiftNotes = like ? batch.map((clip) => flowShiftNote(like, clip, model.model)) : [];
  const notes = [...new Set(shiftNotes.filter((note) => note !== undefined))];
  // One prompt, which a task of an array may have been given, is no work to share.
  const shard = prompts === undefined ? undefined : chosenShard(values.shard, (note) => notes.push(note));
  return {
    clips: shareOf(batch, shard),
    ...{ batch, shard, notes, values, like },
    tensors: {
      ...values.latents !== undefined && { latents: await readLatents(values.latents) },
      ...values.embeddings !== undefined && { embeddings: await readEmbeddings(values.embeddings, model.model) },
    },
  };
}

/** Options of {@link PlanningModel.ready}. */
interface ReadyOptions {
  /** Whether its pictures are read. Without them, the clip is what is known of it before they are. Default: true */
  readonly pictures?: boolean;
  /** About how many pixels a clip has that has the proportions of its picture. Default: the model's own */
  readonly pixels?: number;
}

/** A model that clips are planned for; its weights are not loaded. Each thread that plans clips opens one. */
export class PlanningModel implements Disposable {
  /** By their options: the files of each are read once. */
  readonly #methods = new Map<string, Promise<ReadyMethods>>();

  private constructor(
    private readonly dir: string,
    private readonly parts: Pick<RecordParts, "model" | "identity" | "latents"> & { readonly opened: FamilyModel },
    private readonly owned: DisposableStack,
  ) {}

  /** @throws {TilereelError} if the model or a file that the options name cannot be used */
  static async open(values: WorkshopValues): Promise<PlanningModel> {
    const { model, embeddings, latents } = values;
    const dir = model ?? embeddedModelDir(), folder = await openNamedFolder(values);
    using cleanUp = new DisposableStack();
    const opened = cleanUp.use(await folder.family.open(folder));
    const identity = await modelIdentity(folder, { ...await variantOf(values), embeddings });
    const noise = await fileIdentity("latents", latents, "a safetensors file with start noise");
    return new PlanningModel(dir, { model, identity, latents: noise, opened }, cleanUp.move());
  }

  /** The model: its defaults, the sizes that it makes, what a clip needs (`denoisingBytes`). */
  get model(): FamilyModel {
    return this.parts.opened;
  }

  /**
   * A clip with everything it is made with. Whether it fits the GPU's memory shows only when it is rendered.
   *
   * @throws {TilereelError} if its values contradict one another, the model cannot make its size, length or steps, or a file
   * that they name cannot be used
   */
  async ready(clip: Clip, { pictures = true, pixels }: ReadyOptions = {}): Promise<ReadyClip> {
    try {
      const methods = await this.#readyMethods(valuesOf(clip.values, methodOptions));
      const { family, scheduler } = this.parts.opened, { defaults } = this.parts.opened;
      const images = pictures
        ? await readyImages(clip.values, this.parts.opened, pixels)
        : { options: {}, record: {}, defaults };
      const settings = clipSettings(clip, images.defaults);
      checkClip(family.multiples, settings);
      methods.check(this.parts.opened);
      createScheduler(scheduler, { ...settings, kind: settings.scheduler });
      const quality = formatOf(clip.out) === "mp4" ? clip.values.quality ?? DEFAULT_QUALITY : undefined;
      const record = plannedRecord({ ...this.parts, settings, methods, quality, images: images.record });
      return { ...clip, settings, methods, images, quality, record };
    } catch (error) {
      if (!(error instanceof TilereelError) || clip.where === undefined) throw error;
      throw new TilereelError(`${clip.where}: ${error.message}`, { cause: error, option: error.option });
    }
  }

  [Symbol.dispose](): void {
    this.owned.dispose();
  }

  #readyMethods(asked: MethodValues): Promise<ReadyMethods> {
    const key = JSON.stringify(asked), found = this.#methods.get(key) ?? readyMethods(asked, this.dir);
    this.#methods.set(key, found);
    // The file may be there next time.
    found.catch(() => this.#methods.delete(key));
    return found;
  }
}

/** Files of a record that options of the command line replace. */
function replacedFiles(given: GenerateValues, prompt: string | undefined): string[] {
  const { embeddings, seed, count = 1, prompts, "text-encoder": textEncoder } = given;
  const isOther = prompt !== undefined || prompts !== undefined || given.negative !== undefined;
  return [
    ...FILE_KEYS.map(optionName).filter((option) => (given as Readonly<Record<string, unknown>>)[option] !== undefined),
    ...seed !== undefined || count > 1 ? ["latents"] : [],
    ...textEncoder !== undefined || isOther ? ["embeddings"] : [],
    ...embeddings !== undefined ? ["text-encoder", "text-encoder-2"] : [],
  ];
}

/** The values among others that belong to the options of a table. */
function valuesOf<T extends Readonly<Record<string, unknown>>>(values: T, table: Readonly<Record<string, unknown>>): T {
  const own = Object.entries(values).filter(([key, value]) => Object.hasOwn(table, key) && value !== undefined);
  return Object.fromEntries(own) as T;
}
