import type { Job } from "./job.ts";
import type { Running } from "./queue.ts";

/** A video as OpenAI's API has it; `tilereel` has what only this server knows. */
export function videoObject(job: Job, model: string, running?: Running) {
  const { id, status, created, completed = null, error = null, width, height, frames, fps, clip } = job;
  const { image, "last-image": lastImage, ...values } = clip.values, at = `/v1/videos/${id}/pictures`;
  const { overall = status === "completed" ? 1 : 0, progress } = running ?? {};
  return {
    ...{
      id,
      object: "video",
      created_at: Math.floor(created),
      completed_at: completed,
      expires_at: null,
      status,
      model,
    },
    progress: Math.floor(100 * overall),
    ...{ size: `${width}x${height}`, seconds: String(Number((frames / fps).toFixed(2))), prompt: clip.prompt },
    ...{ error, remixed_from_video_id: null },
    tilereel: {
      ...{ frames, fps, seed: clip.seed, values, scene: job.scene ?? id },
      ...image && { pictures: { image: `${at}/image`, ...lastImage && { "last-image": `${at}/last-image` } } },
      ...progress && { stage: progress.stage, done: progress.done, total: progress.total },
      ...running?.preview && { preview: `/v1/videos/${id}/preview` },
      ...job.record && { record: job.record, bytes: job.bytes, took: job.seconds },
      ...job.routes && { routed: true },
      ...job.tiles && { tiles: true },
      ...job.notes && { notes: job.notes },
    },
  };
}
