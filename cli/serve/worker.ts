/**
 * The server's worker: it owns the GPU and makes one clip after the other, so that the server answers meanwhile.
 *
 * @module
 */
/// <reference lib="webworker" />
import { TilereelError } from "../../gpu/common/errors.ts";
import { gpuFacts } from "../../gpu/device/dry.ts";
import { LastingPipeline } from "../../model/lasting_pipeline.ts";
import { Previews } from "../../model/previews.ts";
import { overall, type Progress } from "../../model/progress.ts";
import { TileRecorder } from "../../model/veda/tile_map.ts";
import { encodeVideo } from "../../model/video/encode_video.ts";
import type { Clip } from "../generate/clip_plan.ts";
import { openGpuAsAsked } from "../../tools/program/gpu_options.ts";
import { PlanningModel, type ReadyClip } from "../generate/plan.ts";
import { renderClip } from "../generate/render_clip.ts";
import { openWorkshop, type Workshop } from "../generate/workshop.ts";
import type { FromWorker, ToWorker } from "./messages.ts";

/** Why a job ends that was cancelled. */
class Cancelled extends Error {
  override message = "cancelled";
}

const post = (answer: FromWorker) => self.postMessage(answer);

type Opening = Extract<ToWorker, { readonly open: unknown }>;

let opening: Opening | undefined, told: Promise<void> | undefined, planning: PlanningModel | undefined;
let current: { readonly job: string; readonly controller: AbortController } | undefined;
/** The clip is never of another job. */
const workshop = new LastingPipeline<Workshop>((options) => openWorkshop(opening!.open, [opening!.largest], options));

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if ("open" in data) [opening, told] = [data, tellGpu(data)];
  else if ("clip" in data) make(data);
  else if (data.cancel === current?.job) current.controller.abort(new Cancelled());
};

/** Opens the GPU and closes it again: what it is decides what clips cost, before one is made. */
async function tellGpu({ open }: Opening): Promise<void> {
  const gpu = await openGpuAsAsked(open).catch((error) => {
    // The first clip says it.
    if (!(error instanceof TilereelError)) throw error;
    return undefined;
  });
  post({ gpu: gpu && gpuFacts(gpu) });
  gpu?.close();
}

async function make({ job, clip, tileMap }: Extract<ToWorker, { readonly clip: Clip }>): Promise<void> {
  const controller = new AbortController(), { signal } = controller;
  current = { job, controller };
  const onProgress = (progress: Progress) => post({ job, progress, overall: overall(progress) ?? 0 });
  const onNote = (note: string) => post({ job, note });
  try {
    await told;
    planning ??= await PlanningModel.open(opening!.open);
    const ready = await planning.ready(clip), open = await workshop.open({ signal, onProgress, onNote });
    const previews = new Previews(open.pipeline, {
      fps: ready.settings.fps,
      show: async (preview) => post({ job, preview: await encodeVideo(preview, "png") }),
    });
    using recorder = tileMap === undefined ? undefined : new TileRecorder(open.gpu);
    const { record, bytes, seconds, report } = await renderClip(open, recorder ? recordedBy(recorder, ready) : ready, {
      ...{ signal, onProgress, onNote },
      onPreview: previews.onPreview,
    }).finally(() => previews.end());
    post({ job, memory: open.gpu.memory });
    const routes = report.routes?.map((step) => step.map((heads) => heads.join("")));
    const tiles = recorder && await recorder.save(tileMap!);
    post({ job, made: { record, bytes, seconds, ...routes && { routes }, ...tiles && { tiles } } });
  } catch (error) {
    await workshop.recover();
    const { message } = error as Error, cancelled = error instanceof Cancelled;
    post({ job, error: message, bug: !cancelled && !(error instanceof TilereelError), cancelled });
  } finally {
    current = undefined;
  }
}

/** The same clip, whose selections of tiles are kept. */
function recordedBy(recorder: TileRecorder, { methods, ...clip }: ReadyClip): ReadyClip {
  const { options } = methods, attention = recorder.recorded(options.attention);
  return { ...clip, methods: { ...methods, options: { ...options, attention } } };
}
