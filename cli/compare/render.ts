import type { ReadyImages } from "../../tools/program/ready_images.ts";
import type { AttentionMethod } from "../../model/attention/method.ts";
import type { VideoPipeline } from "../../model/pipeline.ts";
import { MaskChurn } from "../../model/veda/mask_churn.ts";
import { partOf } from "../../model/progress.ts";
import type { Video } from "../../model/video/video.ts";
import type { ClipSettings } from "../../tools/program/clip/clip_settings.ts";
import type { LongRun } from "../../tools/program/long_run.ts";
import { renderVideo } from "../generate/render_clip.ts";
import type { ReadySetting } from "./ready_setting.ts";
import type { Figures } from "./comparison.ts";

/**
 * Renders one prompt with one setting, and measures it.
 *
 * @throws the signal's reason, if it is aborted
 */
export async function render(
  clip: ClipSettings,
  images: ReadyImages,
  { name, methods }: Pick<ReadySetting, "name" | "methods">,
  pipeline: VideoPipeline,
  { gpu, onProgress, note: onNote, signal }: Pick<LongRun, "gpu" | "onProgress" | "note" | "signal">,
): Promise<{ readonly video: Video; readonly figures: Figures }> {
  let timesteps: readonly number[] = [];
  let begun = 0, denoised = 0;
  const tell = partOf(name, onProgress);
  const start = performance.now();
  using churn = new MaskChurn(gpu, pipeline.headShape.layers);
  const attention: AttentionMethod = {
    prepare(task) {
      timesteps = task.timesteps;
      return methods.options.attention.prepare({ ...task, onTiles: churn.observe });
    },
  };
  const { video, report: { density, routes }, spared } = await renderVideo(
    pipeline,
    { settings: clip, images, methods: { options: { ...methods.options, attention } } },
    {
      onNote,
      onProgress: (progress) => {
        // The pipeline waits for the GPU before it reports a step: these times are true.
        if (progress.stage === "denoise") {
          progress.done === 0 ? begun = performance.now() : denoised = performance.now();
        }
        tell(progress);
      },
      signal,
    },
  );
  const seconds = { denoise: (denoised - begun) / 1000, total: (performance.now() - start) / 1000 };
  const changed = await churn.read();
  return {
    video,
    figures: {
      steps: clip.steps,
      guidance: clip.guidance,
      seconds,
      density,
      ...spared && { blocks: 1 - spared.blocks },
      ...changed !== undefined && { churn: changed },
      timesteps,
      ...routes && { routes: routes.map((layers) => layers.map((heads) => heads.join(""))) },
    },
  };
}
