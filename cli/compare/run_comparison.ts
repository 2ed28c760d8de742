import type { ImageValues } from "../../tools/program/clip/image_options.ts";
import { type ReadyImages, readyImages } from "../../tools/program/ready_images.ts";
import config from "../../deno.json" with { type: "json" };
import type { GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import { modelIdentity } from "../../model/identity/model_identity.ts";
import { plannedRecord } from "../../tools/program/clip/record.ts";
import { type OnProgress, overall, partOf } from "../../model/progress.ts";
import { flicker, meanSquaredError, ssim } from "../../model/video/quality.ts";
import type { Video } from "../../model/video/video.ts";
import type { LongRun } from "../../tools/program/long_run.ts";
import {
  loadPipeline,
  type ModelValues,
  openNamedFolder,
  variantOf,
  weightsLine,
} from "../../tools/program/model_options.ts";
import { type ClipSettings, clipSettings, overlay } from "../../tools/program/clip/clip_settings.ts";
import { type Shard, shareOf, wholeCommandLine } from "../shards/shard.ts";
import { ShardLog } from "../shards/shard_log.ts";
import { ClipStore, filesOf, type Identity, type StoredClip } from "./clip_store.ts";
import type { ComparedPrompt, Comparison } from "./comparison.ts";
import type { PlannedPrompt } from "./plan.ts";
import type { ReadySetting } from "./ready_setting.ts";
import { render } from "./render.ts";
import { sideBySide } from "./side_by_side.ts";
import { warmUp } from "./warm_up.ts";

/** A clip of the comparison: a prompt with a setting. */
interface Wanted {
  readonly setting: ReadySetting;
  readonly clip: ClipSettings;
  readonly images: ReadyImages;
  readonly identity: Identity;
}

/** How a comparison is run. */
export interface RunOptions {
  /** The part of the prompts; undefined for all. */
  readonly shard: Shard | undefined;
  /** Called with the number of clips of this shard, and of all. */
  readonly onStart: (own: number, all: number) => void;
  /** Called with the number of finished clips of this shard, whenever one is added. */
  readonly onClip: (done: number) => void;
}

/** The whole comparison or, after a shard, the number of prompts that still lack clips. */
export type RunResult =
  | { readonly comparison: Comparison; readonly left?: never }
  | { readonly comparison?: never; readonly left: number };

/**
 * Renders every clip that does not exist yet, and measures each against that of the first setting.
 *
 * @param work ended by its signal within a step's time; finished clips stay
 * @throws {TilereelError} when rendering fails or something cannot be written
 * @throws the signal's reason, if it is aborted
 */
export async function runComparison(
  plan: { readonly folder: string; readonly prompts: readonly PlannedPrompt[] },
  settings: readonly ReadySetting[],
  values: ModelValues & ImageValues,
  work: LongRun,
  { shard, onStart, onClip }: RunOptions,
): Promise<RunResult> {
  const { precision, settings: { description: { name: adapter, source } } } = work.gpu;
  const folder = await openNamedFolder(values);
  using opened = await folder.family.open(folder);
  const identity = await modelIdentity(folder, await variantOf(values));
  const made = { model: values.model, identity, opened };
  for (const { methods } of settings) methods.check(opened);
  const images = await readyImages(values, opened);
  const prompts = plan.prompts.map(({ prompt, seed, values }) => ({
    prompt,
    seed,
    wanted: settings.map((setting): Wanted => {
      const clip = clipSettings({ prompt, seed, values: overlay(values, setting.values) }, images.defaults);
      const record = plannedRecord({ ...made, settings: clip, methods: setting.methods, images: images.record });
      return { setting, clip, images, identity: { ...record, ...{ precision, adapter, source, prompt, seed } } };
    }),
  }));
  // What has the same prompt and seed shares a folder.
  const own = shareOf(prompts, shard, ({ prompt, seed }) => JSON.stringify([prompt, seed]));
  const all = clipsOf(prompts),
    mine = clipsOf(own),
    open = async () => {
      const store = await ClipStore.open(plan.folder);
      store.nameFolders(all.map(({ identity }) => identity));
      return store;
    };
  let store = await open();
  const tell = () => onClip(mine.filter(({ identity }) => store.find(identity)).length);
  const missing = mine.filter(({ identity }) => !store.find(identity)), kept = mine.length - missing.length;
  onStart(mine.length, all.length);
  if (kept > 0) work.say(`${kept} of ${mine.length} clips exist already and are kept.`);
  tell();
  await using log = await ShardLog.open(shard, {
    ...{ folder: plan.folder, unit: "clip", total: mine.length, all: all.length },
    work: [values.model, settings.map(({ words }) => words), plan.prompts],
  }, kept);
  using renderer = new Renderer(work, values, all, missing.length > 0 ? missing : mine);
  const compare = async (some: typeof prompts): Promise<ComparedPrompt[]> => {
    const compared: ComparedPrompt[] = [];
    for (const [i, planned] of some.entries()) {
      const { length } = some;
      const shown = length === 1 ? work.onProgress : partOf(`prompt ${i + 1} of ${length}`, work.onProgress);
      const onProgress: OnProgress = (progress) => {
        log?.progress(overall(progress, "encode prompt") ?? 0);
        shown(progress);
      };
      const add = async (one: Wanted) => {
        log?.begin(`${planned.prompt} (${one.setting.name})`);
        const added = await renderer.add(store, one, onProgress);
        log?.made();
        tell();
        return added;
      };
      compared.push(await comparePrompt(planned, planned.wanted, store, add, onProgress));
    }
    return compared;
  };
  let compared = await compare(own);
  await log?.end();
  if (shard) {
    // Others may have made clips meanwhile.
    store = await open();
    const left = prompts.filter(({ wanted }) => !isCompared(wanted, store)).length;
    if (left > 0) return { left };
    compared = await compare(prompts);
  }
  return {
    comparison: {
      version: config.version,
      date: new Date().toISOString(),
      commandLine: wholeCommandLine(),
      ...{ model: values.model ?? "the embedded demo model", adapter, precision },
      ...identity.weightDtype && { weightDtype: identity.weightDtype },
      settings: settings.map(({ name, words }) => ({ name, words })),
      prompts: compared,
    },
  };
}

/** The clips of some prompts, each once. */
function clipsOf(prompts: readonly { readonly wanted: readonly Wanted[] }[]): Wanted[] {
  return [
    ...new Map(prompts.flatMap(({ wanted }) => wanted).map((one) => [JSON.stringify(one.identity), one])).values(),
  ];
}

/** Whether nothing is left to do of a prompt. */
function isCompared(wanted: readonly Wanted[], store: ClipStore): boolean {
  const clips = wanted.flatMap(({ identity }) => store.find(identity) ?? []);
  return clips.length === wanted.length && store.areTogether(clips) &&
    clips.every((clip) => isMeasured(clip, clips[0]!));
}

/** Whether a clip was measured against the reference. */
function isMeasured({ recorded: { likeness } }: StoredClip, reference: StoredClip): boolean {
  return likeness?.to === reference.digest && likeness.flicker !== undefined;
}

/** @param add renders a clip and keeps it */
async function comparePrompt(
  { prompt, seed }: Pick<PlannedPrompt, "prompt" | "seed">,
  wanted: readonly Wanted[],
  store: ClipStore,
  add: (one: Wanted) => Promise<{ readonly clip: StoredClip; readonly video: Video }>,
  onProgress: OnProgress,
): Promise<ComparedPrompt> {
  const clips: StoredClip[] = [];
  const videos: (Video | undefined)[] = [];
  for (const [i, one] of wanted.entries()) {
    const found = store.find(one.identity);
    if (found) clips[i] = found;
    else ({ clip: clips[i], video: videos[i] } = await add(one));
  }
  const videoOf = async (i: number): Promise<Video> => {
    const video = videos[i] ?? await store.samples(clips[i]!);
    if (video) return videos[i] = video;
    store.forget(clips[i]!);
    ({ clip: clips[i], video: videos[i] } = await add(wanted[i]!));
    return videos[i]!;
  };
  for (let i = 0; i < clips.length; i++) {
    if (isMeasured(clips[i]!, clips[0]!)) continue;
    const reference = await videoOf(0), video = await videoOf(i);
    const measured = {
      meanSquaredError: meanSquaredError(video.data, reference.data),
      ssim: ssim(video, reference),
      flicker: flicker(video, reference),
    };
    clips[i] = await store.note(clips[i]!, measured, clips[0]!);
  }
  const all = async () => sideBySide(await Array.fromAsync(wanted.keys(), videoOf));
  const { width, height, frames, fps } = clips[0]!.recorded.shape;
  return {
    ...{ prompt, seed, width, height, frames, fps },
    folder: clips[0]!.folder,
    sideBySide: await store.together(clips, all, onProgress),
    clips: clips.map((clip, i) => {
      const { identity: _, shape: __, likeness, ...figures } = clip.recorded;
      const { meanSquaredError, ssim, flicker } = likeness!;
      return { setting: wanted[i]!.setting.name, ...filesOf(clip), ...figures, meanSquaredError, ssim, flicker };
    }),
  };
}

/** A clip with its methods, as `VideoPipeline.generate` takes it. */
function toRender({ clip, images, setting: { methods } }: Wanted): GenerateOptions {
  return { ...clip, ...methods.options, ...images.options };
}

/** A pipeline that is loaded and warmed up when the first clip is rendered. */
class Renderer implements Disposable {
  #pipeline: VideoPipeline | undefined;

  /**
   * @param all the clips that memory is planned for: weights then lie where they lay when others of them were rendered
   * @param likely the clips that are likely to be rendered
   */
  constructor(
    private readonly work: LongRun,
    private readonly values: ModelValues,
    private readonly all: readonly Wanted[],
    private readonly likely: readonly Wanted[],
  ) {}

  async add(
    store: ClipStore,
    { clip, images, setting, identity }: Wanted,
    onProgress: OnProgress,
  ): Promise<{ readonly clip: StoredClip; readonly video: Video }> {
    this.work.signal.throwIfAborted();
    const pipeline = this.#pipeline ??= await this.#load();
    const { video, figures } = await render(clip, images, setting, pipeline, { ...this.work, onProgress });
    return { video, clip: await store.add(setting.name, video, { ...figures, identity }, onProgress) };
  }

  async #load(): Promise<VideoPipeline> {
    const { gpu, onProgress, say, signal } = this.work;
    const pipeline = await loadPipeline(this.values, { gpu, clips: this.all.map(toRender), onProgress });
    try {
      const streamed = weightsLine(pipeline.weights);
      if (streamed) say(streamed);
      const firsts = this.likely.filter(({ setting }, i) =>
        this.likely.findIndex((other) => other.setting === setting) === i
      );
      await warmUp(pipeline, firsts.map(toRender), partOf("warming up", onProgress), signal);
      return pipeline;
    } catch (error) {
      pipeline.close();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#pipeline?.close();
  }
}
