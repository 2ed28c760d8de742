/**
 * Renders the missing clips of a comparison, and collects the results.
 *
 * @module
 */
import config from "../../deno.json" with { type: "json" };
import type { Gpu } from "../../gpu/gpu.ts";
import type { GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import { modelIdentity } from "../../model/identity/model_identity.ts";
import { plannedRecord } from "../generate/clip_record.ts";
import { type OnProgress, partOf } from "../../model/progress.ts";
import { meanSquaredError, ssim } from "../../model/video/quality.ts";
import type { Video } from "../../model/video/video.ts";
import type { WeightsPlacement } from "../../model/blocks/weights_place.ts";
import { loadPipeline, type ModelValues, openNamedFolder, variantOf } from "../../tools/program/model_options.ts";
import type { ClipSettings } from "../../tools/program/clip/clip_settings.ts";
import { ClipStore, filesOf, type Identity, type StoredClip } from "./clip_store.ts";
import type { ComparedPrompt, Comparison } from "./comparison.ts";
import type { ComparisonPlan, PlannedPrompt } from "./plan.ts";
import type { ReadySetting } from "./ready_setting.ts";
import { clipOf, render } from "./render.ts";
import { sideBySide } from "./side_by_side.ts";
import { warmUp } from "./warm_up.ts";

/** What a comparison runs on. */
export interface Workplace {
  readonly gpu: Gpu;
  /** The options of the model. */
  readonly values: ModelValues;
  /** As the user typed it, for the page. */
  readonly commandLine: string;
  readonly onProgress: OnProgress;
  /** Called once the model is loaded, with the place of the weights. */
  readonly onLoaded: (placement: WeightsPlacement) => void;
  /** Called with a clause about a clip that the user should know, once for each clip that it applies to. */
  readonly onNote: (note: string) => void;
  /** Called with the number of clips that exist already and are kept, and the number of all clips. */
  readonly onKept: (kept: number, total: number) => void;
  /** Called with the number of finished clips, whenever one is added. */
  readonly onClip?: (done: number) => void;
  /** Ends the work within a step's time; finished clips stay. */
  readonly signal?: AbortSignal;
}

/** A clip of the comparison: a prompt with a setting. */
interface Wanted {
  readonly setting: ReadySetting;
  readonly clip: ClipSettings;
  readonly identity: Identity;
}

/**
 * Renders every clip that does not exist yet, and measures each against that of the first setting.
 *
 * @throws {TilereelError} when rendering fails or something cannot be written
 * @throws the signal's reason, if it is aborted
 */
export async function runComparison(
  plan: ComparisonPlan,
  settings: readonly ReadySetting[],
  workplace: Workplace,
): Promise<Comparison> {
  const { gpu, commandLine, values, signal } = workplace;
  const { description, precision } = gpu.settings;
  const circumstances = { precision, adapter: description.name, source: description.source };
  const folder = await openNamedFolder(values);
  using opened = await folder.family.open(folder);
  const identity = await modelIdentity(folder, variantOf(values));
  const made = { model: values.model, identity, opened, quality: undefined, latents: {} };
  const wanted = plan.prompts.map((planned) =>
    settings.map((setting): Wanted => {
      const clip = clipOf(planned, setting, folder.generation);
      const record = plannedRecord({ ...made, settings: clip, methods: setting.methods });
      const { prompt, seed } = clip;
      return { setting, clip, identity: { ...record, ...circumstances, prompt, seed } };
    })
  );
  const store = await ClipStore.open(plan.folder);
  const missing = wanted.flat().filter(({ identity }) => !store.find(identity));
  const total = wanted.flat().length;
  const tell = () => workplace.onClip?.(wanted.flat().filter(({ identity }) => store.find(identity)).length);
  workplace.onKept(total - missing.length, total);
  tell();
  using renderer = new Renderer(workplace, wanted.flat(), missing.length > 0 ? missing : wanted.flat());
  const prompts: ComparedPrompt[] = [];
  for (const [i, planned] of plan.prompts.entries()) {
    const { onProgress: all } = workplace, { length } = plan.prompts;
    const onProgress = length === 1 ? all : partOf(`prompt ${i + 1} of ${length}`, all);
    const add = async (one: Wanted) => {
      signal?.throwIfAborted();
      const { video, figures } = await renderer.render(one, onProgress);
      const clip = await store.add(one.setting.name, video, { ...figures, identity: one.identity }, onProgress);
      tell();
      return { clip, video };
    };
    prompts.push(await comparePrompt(planned, wanted[i]!, { store, add, onProgress }));
  }
  return {
    version: config.version,
    date: new Date().toISOString(),
    commandLine,
    ...{ model: values.model ?? "the embedded demo model", adapter: description.name, precision },
    ...identity.weightDtype && { weightDtype: identity.weightDtype },
    settings: settings.map(({ name, words }) => ({ name, words })),
    prompts,
  };
}

/** What clips are compared with. */
interface Bench {
  readonly store: ClipStore;
  /** Renders a clip and keeps it. */
  readonly add: (one: Wanted) => Promise<{ readonly clip: StoredClip; readonly video: Video }>;
  readonly onProgress: OnProgress;
}

async function comparePrompt(
  { prompt, seed }: PlannedPrompt,
  wanted: readonly Wanted[],
  { store, add, onProgress }: Bench,
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
    if (clips[i]!.recorded.likeness?.to === clips[0]!.digest) continue;
    const reference = await videoOf(0), video = await videoOf(i);
    const measured = { meanSquaredError: meanSquaredError(video.data, reference.data), ssim: ssim(video, reference) };
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
      const { meanSquaredError, ssim } = likeness!;
      return { setting: wanted[i]!.setting.name, ...filesOf(clip), ...figures, meanSquaredError, ssim };
    }),
  };
}

/** A clip with its methods, as `VideoPipeline.generate` takes it. */
function toRender({ clip, setting: { methods } }: Wanted): GenerateOptions {
  return { ...clip, ...methods.options };
}

/** A pipeline that is loaded and warmed up when the first clip is rendered. */
class Renderer implements Disposable {
  #pipeline: VideoPipeline | undefined;

  /**
   * @param all the clips that memory is planned for: weights then lie where they lay when others of them were rendered
   * @param likely the clips that are likely to be rendered
   */
  constructor(
    private readonly workplace: Workplace,
    private readonly all: readonly Wanted[],
    private readonly likely: readonly Wanted[],
  ) {}

  async render({ clip, setting }: Wanted, onProgress: OnProgress) {
    const { signal, onNote } = this.workplace;
    return await render(clip, setting, { pipeline: this.#pipeline ??= await this.#load(), onProgress, onNote, signal });
  }

  async #load(): Promise<VideoPipeline> {
    const { gpu, values, onProgress, onLoaded, signal } = this.workplace;
    const clips = this.all.map(toRender);
    const pipeline = await loadPipeline(values, { gpu, clips, onProgress });
    try {
      onLoaded(pipeline.weights);
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
