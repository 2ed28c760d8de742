/**
 * The smallest worker that makes clips. It takes a {@link Clip}, or "cancel", and posts progress, steps that have a
 * preview, and how the clip ended.
 *
 * @module
 */
/// <reference lib="webworker" />
import type { Clip } from "../../../cli/generate/clip_plan.ts";
import { PlanningModel } from "../../../cli/generate/plan.ts";
import { renderClip } from "../../../cli/generate/render_clip.ts";
import { openWorkshop } from "../../../cli/generate/workshop.ts";
import { LastingPipeline } from "../../../model/lasting_pipeline.ts";
import type { Progress } from "../../../model/progress.ts";

/** What the worker posts. */
export type Answer =
  | { readonly progress: Progress }
  | { readonly preview: number }
  | { readonly bytes: number }
  | { readonly error: string };

const post = (answer: Answer) => self.postMessage(answer);
// Memory is planned for the largest clip that may come.
const largest = { width: 64, height: 64, frames: 5 };
const workshop = new LastingPipeline((options) => openWorkshop({}, [largest], options));
let job: AbortController | undefined;

self.onmessage = ({ data }: MessageEvent<Clip | "cancel">) => {
  if (data === "cancel") job?.abort(new Error("cancelled"));
  else make(data);
};

async function make(clip: Clip): Promise<void> {
  job = new AbortController();
  const options = { signal: job.signal, onProgress: (progress: Progress) => post({ progress }) };
  try {
    using planning = await PlanningModel.open({});
    const ready = await planning.ready(clip), open = await workshop.open(options);
    const made = await renderClip(open, ready, { ...options, onPreview: (_, step) => post({ preview: step }) });
    post({ bytes: made.bytes });
  } catch (error) {
    await workshop.recover();
    post({ error: (error as Error).message });
  }
}
