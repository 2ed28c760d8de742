/**
 * Renders one prompt under every setting, and measures.
 *
 * @module
 */
import { join } from "node:path";
import type { AttentionReport } from "../../model/attention/report.ts";
import type { GenerationDefaults } from "../../model/checkpoint/generation_defaults.ts";
import type { GenerateOptions, WanPipeline } from "../../model/pipeline.ts";
import type { OnProgress } from "../../model/progress.ts";
import { meanSquaredError, ssim } from "../../model/quality.ts";
import type { Video } from "../../model/video.ts";
import { type ClipSettings, clipSettings, overlay } from "../clip_settings.ts";
import { writeAtomically } from "../output.ts";
import { slug } from "../slug.ts";
import { writeVideo } from "../video/write_video.ts";
import type { PlannedPrompt } from "./plan.ts";
import { encodePoster } from "./poster.ts";
import type { ReadySetting } from "./ready_setting.ts";
import { type ClipRecord, type MadeWith, type PromptRecord, writeRecord } from "./record.ts";
import { sideBySide } from "./side_by_side.ts";

/** What is the same for all prompts. */
export interface RenderContext {
  readonly pipeline: WanPipeline;
  readonly settings: readonly ReadySetting[];
  readonly onProgress: OnProgress;
}

/** A clip and what was measured while it was made. */
interface Rendered {
  readonly clip: ClipSettings;
  readonly video: Video;
  readonly seconds: ClipRecord["seconds"];
  readonly report: AttentionReport;
  readonly timesteps: readonly number[];
}

const SIDE_BY_SIDE = "side-by-side.mp4";

/**
 * Makes the folder `folder` of a prompt: its clips, their posters, the clips side by side, and the record. It appears
 * when all are made.
 */
export async function renderPrompt(
  folder: string,
  planned: PlannedPrompt,
  madeWith: MadeWith,
  context: RenderContext,
): Promise<void> {
  await writeAtomically(folder, async (temporary) => {
    await Deno.mkdir(temporary);
    const clips: ClipRecord[] = [];
    const videos: Video[] = [];
    for (const [i, setting] of context.settings.entries()) {
      const rendered = await render(planned, setting, context);
      videos.push(rendered.video);
      clips.push(await writeClip(temporary, i, setting, rendered, videos[0]!, context));
    }
    const { width, height, frames, fps } = videos[0]!;
    await writeVideo(join(temporary, SIDE_BY_SIDE), sideBySide(videos), { onProgress: context.onProgress });
    const record: PromptRecord = {
      prompt: planned.prompt,
      seed: planned.seed,
      ...{ width, height, frames, fps },
      sideBySide: SIDE_BY_SIDE,
      clips,
    };
    await writeRecord(temporary, record, madeWith);
  });
}

/** What a prompt is rendered with under a setting, which has the last word. */
export function clipOf(
  { prompt, seed, values }: PlannedPrompt,
  setting: ReadySetting,
  defaults: GenerationDefaults,
): ClipSettings & Required<Pick<GenerateOptions, "attention">> {
  const clip = clipSettings({ prompt, seed, values: overlay(values, setting.values) }, defaults);
  return { ...clip, attention: setting.attention };
}

async function render(planned: PlannedPrompt, setting: ReadySetting, context: RenderContext): Promise<Rendered> {
  const clip = clipOf(planned, setting, context.pipeline.defaults);
  let report: AttentionReport | undefined;
  let timesteps: readonly number[] = [];
  let begun = 0, denoised = 0;
  const start = performance.now();
  const video = await context.pipeline.generate({
    ...clip,
    attention: {
      prepare(task) {
        timesteps = task.timesteps;
        return setting.attention.prepare(task);
      },
    },
    onAttention: (told) => report = told,
    onProgress: (progress) => {
      // The pipeline waits for the GPU after each step: these times are true.
      if (progress.stage === "denoise") progress.done === 0 ? begun = performance.now() : denoised = performance.now();
      context.onProgress({ ...progress, stage: `${setting.name}, ${progress.stage}` });
    },
  });
  const seconds = { denoise: (denoised - begun) / 1000, total: (performance.now() - start) / 1000 };
  return { clip, video, seconds, report: report!, timesteps };
}

async function writeClip(
  folder: string,
  index: number,
  setting: ReadySetting,
  { clip, video, seconds, report, timesteps }: Rendered,
  reference: Video,
  context: RenderContext,
): Promise<ClipRecord> {
  const name = `${index + 1}-${slug(setting.name)}`;
  const [file, poster] = [`${name}.mp4`, `${name}.png`];
  await writeVideo(join(folder, file), video, { onProgress: context.onProgress });
  await Deno.writeFile(join(folder, poster), encodePoster(video));
  return {
    setting: setting.name,
    ...{ file, poster, seconds },
    steps: clip.steps,
    guidance: clip.guidance,
    density: report.density,
    meanSquaredError: meanSquaredError(video.data, reference.data),
    ssim: ssim(video, reference),
    timesteps,
    ...report.routes && { routes: report.routes.map((layers) => layers.map((heads) => heads.join(""))) },
  };
}
