import type { ClampCount } from "../../gpu/clamps.ts";
import { totalSpared } from "../../model/cache/counted_cache.ts";
import type { AttentionReport } from "../../model/attention/report.ts";
import type { GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { ClipRecord } from "../../model/video/record_text.ts";
import type { Video } from "../../model/video/video.ts";
import { formatOf, writeVideo } from "../../model/video/write_video.ts";
import type { ClipSettings } from "../../tools/program/clip/clip_settings.ts";
import type { ReadyImages } from "../../tools/program/ready_images.ts";
import type { ReadyMethods } from "../../tools/program/clip/method_options.ts";
import type { ReadyClip } from "./plan.ts";
import { removeFrames } from "./replace.ts";
import type { Workshop } from "./workshop.ts";

/** What a clip is rendered with, beside its settings. The signal ends the work, as that of `generate` does. */
export type RenderOptions = Pick<
  GenerateOptions,
  | "latents"
  | "embeddings"
  | "partner"
  | "onProgress"
  | "onNote"
  | "onPreview"
  | "onState"
  | "stateInterval"
  | "resumeFrom"
  | "signal"
>;

/** A video, and what there is to say about how it was rendered. */
export interface RenderedVideo {
  readonly video: Video;
  readonly report: AttentionReport;
  readonly clamped: readonly ClampCount[];
  /** What a step cache spared; absent without one. */
  readonly spared?: SparedShares;
}

/** What a step cache spared, as shares of all steps and passes of a clip. */
export interface SparedShares {
  /** Of the passes: the whole prediction was given by the cache. */
  readonly passes: number;
  /** Of the blocks: they were not run, in those passes and in others. */
  readonly blocks: number;
  /** The number of outputs of attention modules that were used again. */
  readonly attentions: number;
}

/** A clip in its file. */
export interface RenderedClip extends Omit<RenderedVideo, "video"> {
  readonly record: ClipRecord;
  /** The size of the file or files. */
  readonly bytes: number;
  /** The time from the start of rendering to the complete file. */
  readonly seconds: number;
}

/**
 * Renders a video.
 *
 * @throws as {@link VideoPipeline.generate} does
 */
export async function renderVideo(
  pipeline: VideoPipeline,
  clip: {
    readonly settings: ClipSettings;
    readonly methods: Pick<ReadyMethods, "options">;
    readonly images: Pick<ReadyImages, "options">;
  },
  options: RenderOptions,
): Promise<RenderedVideo> {
  let report: AttentionReport = { density: 1 }, clamped: readonly ClampCount[] = [], spared: SparedShares | undefined;
  const video = await pipeline.generate({
    ...clip.settings,
    ...clip.methods.options,
    ...clip.images.options,
    onAttention: (told) => report = told,
    onClamped: (counts) => clamped = counts,
    onCache: (cached) => {
      const { steps, blocks, attentions } = totalSpared(cached.values()), passes = clip.settings.steps * cached.size;
      spared = { passes: steps / passes, blocks: blocks / passes / pipeline.headShape.layers, attentions };
    },
    ...options,
  });
  return { video, report, clamped, ...spared && { spared } };
}

/**
 * Renders a planned clip and writes it to its place with its record, complete or not at all. Nothing is printed.
 *
 * @param clip `replaces`: the folder of frames that it may replace has a clip in it
 * @throws {TilereelError} if it cannot be rendered or written
 * @throws the signal's reason, if it is aborted
 */
export async function renderClip(
  { gpu: { precision, settings: { description } }, pipeline, assistant }: Workshop,
  clip: ReadyClip & { readonly replaces?: boolean },
  options: RenderOptions = {},
): Promise<RenderedClip> {
  const start = performance.now(), { onProgress, signal } = options, { out, quality } = clip;
  const partner = assistant?.partner(clip.methods.record(pipeline.layout(clip.settings).grid));
  const { video, ...told } = await renderVideo(pipeline, clip, { ...partner && { partner }, ...options });
  const record: ClipRecord = {
    ...clip.record,
    precision,
    adapter: description.name,
    source: description.source,
    density: Number(told.report.density.toFixed(4)),
  };
  if (clip.replaces && formatOf(out) === "frames") await removeFrames(out);
  const bytes = await writeVideo(out, video, {
    record,
    ...quality !== undefined && { quality },
    ...onProgress && { onProgress },
    ...signal && { signal },
  });
  return { record, bytes, seconds: (performance.now() - start) / 1000, ...told };
}
