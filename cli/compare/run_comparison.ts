import type { ImageValues } from "../../tools/program/clip/image_options.ts";
import { type ReadyImages, readyImages } from "../../tools/program/ready_images.ts";
import config from "../../deno.json" with { type: "json" };
import type { GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import { modelIdentity } from "../../model/identity/model_identity.ts";
import { plannedRecord } from "../../tools/program/clip/record.ts";
import { type OnProgress, partOf } from "../../model/progress.ts";
import { flicker, meanSquaredError, ssim } from "../../model/video/quality.ts";
import type { Video } from "../../model/video/video.ts";
import { commandLine } from "../../tools/program/command_line.ts";
import type { LongRun } from "../../tools/program/long_run.ts";
import {
  loadPipeline,
  type ModelValues,
  openNamedFolder,
  variantOf,
  weightsLine,
} from "../../tools/program/model_options.ts";
import { type ClipSettings, clipSettings, overlay } from "../../tools/program/clip/clip_settings.ts";
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

/**
 * Renders every clip that does not exist yet, and measures each against that of the first setting.
 *
 * @param work ended by its signal within a step's time; finished clips stay
 * @param onClip called with the number of finished clips, whenever one is added
 * @throws {TilereelError} when rendering fails or something cannot be written
 * @throws the signal's reason, if it is aborted
 */
export async function runComparison(
  plan: { readonly folder: string; readonly prompts: readonly PlannedPrompt[] },
  settings: readonly ReadySetting[],
  values: ModelValues & ImageValues,
  work: LongRun,
  onClip: (done: number) => void,
): Promise<Comparison> {
  const { precision, settings: { description: { name: adapter, source } } } = work.gpu;
  const folder = await openNamedFolder(values);
  using opened = await folder.family.open(folder);
  const identity = await modelIdentity(folder, await variantOf(values));
  const made = { model: values.model, identity, opened };
  for (const { methods } of settings) methods.check(opened);
  const images = await readyImages(values, opened);
  const wanted = plan.prompts.map(({ prompt, seed, values }) =>
    settings.map((setting): Wanted => {
      const clip = clipSettings({ prompt, seed, values: overlay(values, setting.values) }, images.defaults);
      const record = plannedRecord({ ...made, settings: clip, methods: setting.methods, images: images.record });
      return { setting, clip, images, identity: { ...record, ...{ precision, adapter, source, prompt, seed } } };
    })
  );
  const store = await ClipStore.open(plan.folder), all = wanted.flat();
  const tell = () => onClip(all.filter(({ identity }) => store.find(identity)).length);
  const missing = all.filter(({ identity }) => !store.find(identity)), kept = all.length - missing.length;
  if (kept > 0) work.say(`${kept} of ${all.length} clips exist already and are kept.`);
  tell();
  using renderer = new Renderer(work, values, store, all, missing.length > 0 ? missing : all);
  const prompts: ComparedPrompt[] = [];
  for (const [i, planned] of plan.prompts.entries()) {
    const { length } = plan.prompts;
    const onProgress = length === 1 ? work.onProgress : partOf(`prompt ${i + 1} of ${length}`, work.onProgress);
    const add = async (one: Wanted) => {
      const added = await renderer.add(one, onProgress);
      tell();
      return added;
    };
    prompts.push(await comparePrompt(planned, wanted[i]!, store, add, onProgress));
  }
  return {
    version: config.version,
    date: new Date().toISOString(),
    commandLine: commandLine(),
    ...{ model: values.model ?? "the embedded demo model", adapter, precision },
    ...identity.weightDtype && { weightDtype: identity.weightDtype },
    settings: settings.map(({ name, words }) => ({ name, words })),
    prompts,
  };
}

/** @param add renders a clip and keeps it */
async function comparePrompt(
  { prompt, seed }: PlannedPrompt,
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
    const { likeness } = clips[i]!.recorded;
    if (likeness?.to === clips[0]!.digest && likeness.flicker !== undefined) continue;
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
    private readonly store: ClipStore,
    private readonly all: readonly Wanted[],
    private readonly likely: readonly Wanted[],
  ) {}

  async add(
    { clip, images, setting, identity }: Wanted,
    onProgress: OnProgress,
  ): Promise<{ readonly clip: StoredClip; readonly video: Video }> {
    this.work.signal.throwIfAborted();
    const pipeline = this.#pipeline ??= await this.#load();
    const { video, figures } = await render(clip, images, setting, pipeline, { ...this.work, onProgress });
    return { video, clip: await this.store.add(setting.name, video, { ...figures, identity }, onProgress) };
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
