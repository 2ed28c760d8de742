/**
 * Renders one prompt with one setting, and measures it.
 *
 * @module
 */
import type { AttentionMethod } from "../../model/attention/method.ts";
import type { GenerationDefaults } from "../../model/checkpoint/generation_defaults.ts";
import type { VideoPipeline } from "../../model/pipeline.ts";
import { type OnProgress, partOf } from "../../model/progress.ts";
import type { Video } from "../../model/video/video.ts";
import { type ClipSettings, clipSettings, overlay } from "../../tools/program/clip/clip_settings.ts";
import { renderVideo } from "../generate/render_clip.ts";
import type { PlannedPrompt } from "./plan.ts";
import type { ReadySetting } from "./ready_setting.ts";
import type { Figures } from "./record.ts";

/** What is the same for all clips. */
export interface RenderContext {
  readonly pipeline: VideoPipeline;
  readonly onProgress: OnProgress;
  readonly onNote: (note: string) => void;
  /** Ends the work within a step's time. */
  readonly signal?: AbortSignal | undefined;
}

/** The settings of a clip. Those of `setting` take precedence over those of the prompt. */
export function clipOf(
  { prompt, seed, values }: PlannedPrompt,
  setting: Pick<ReadySetting, "values">,
  defaults: GenerationDefaults,
): ClipSettings {
  return clipSettings({ prompt, seed, values: overlay(values, setting.values) }, defaults);
}

/**
 * Renders a clip.
 *
 * @throws the signal's reason, if it is aborted
 */
export async function render(
  clip: ClipSettings,
  { name, methods }: Pick<ReadySetting, "name" | "methods">,
  { pipeline, onProgress, onNote, signal }: RenderContext,
): Promise<{ readonly video: Video; readonly figures: Figures }> {
  let timesteps: readonly number[] = [];
  let begun = 0, denoised = 0;
  const tell = partOf(name, onProgress);
  const start = performance.now();
  const attention: AttentionMethod = {
    prepare(task) {
      timesteps = task.timesteps;
      return methods.options.attention.prepare(task);
    },
  };
  const { video, report: { density, routes } } = await renderVideo(
    pipeline,
    { settings: clip, methods: { options: { ...methods.options, attention } } },
    {
      onNote,
      onProgress: (progress) => {
        // The pipeline waits for the GPU after each step: these times are true.
        if (progress.stage === "denoise") {
          progress.done === 0 ? begun = performance.now() : denoised = performance.now();
        }
        tell(progress);
      },
      ...signal && { signal },
    },
  );
  const seconds = { denoise: (denoised - begun) / 1000, total: (performance.now() - start) / 1000 };
  return {
    video,
    figures: {
      steps: clip.steps,
      guidance: clip.guidance,
      seconds,
      density,
      timesteps,
      ...routes && { routes: routes.map((layers) => layers.map((heads) => heads.join(""))) },
    },
  };
}
