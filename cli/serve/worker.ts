/**
 * The server's worker: it owns the GPU and makes one clip after the other, so that the server answers meanwhile.
 *
 * @module
 */
/// <reference lib="webworker" />
import { DeviceLostError, TilereelError } from "../../gpu/common/errors.ts";
import { gpuFacts } from "../../gpu/device/dry.ts";
import { LastingPipeline } from "../../model/lasting_pipeline.ts";
import { Previews } from "../../model/previews.ts";
import { overall, type Progress } from "../../model/progress.ts";
import { TileRecorder } from "../../model/veda/tile_map.ts";
import { goesOnText } from "../../model/sampling_state.ts";
import { encodeVideo } from "../../model/video/encode_video.ts";
import type { Clip } from "../generate/clip_plan.ts";
import { openGpuAsAsked } from "../../tools/program/gpu_options.ts";
import { PlanningModel, type ReadyClip } from "../generate/plan.ts";
import { renderClip } from "../generate/render_clip.ts";
import { UnfinishedClip } from "../generate/unfinished.ts";
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
/** The GPU was lost, perhaps because there was no memory to upload to. */
let lost = false;
/** The clip is never of another job. */
const workshop = new LastingPipeline<Workshop>((options) => {
  const { open: values, largest } = opening!, isAuto = (values.weights ?? "auto") === "auto";
  return openWorkshop(lost && isAuto ? { ...values, weights: "stream" } : values, [largest], options);
});

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
  const render = async (ready: ReadyClip, unfinished: UnfinishedClip) => {
    const open = await workshop.open({ signal, onProgress, onNote });
    await unfinished.open(open.gpu);
    const previews = new Previews(open.pipeline, {
      fps: ready.settings.fps,
      show: async (preview) => post({ job, preview: await encodeVideo(preview, "png") }),
    });
    // The map of a clip that goes on has the steps from there.
    using recorder = tileMap === undefined ? undefined : new TileRecorder(open.gpu);
    const made = await renderClip(open, recorder ? recordedBy(recorder, ready) : ready, {
      ...{ signal, onNote, onPreview: previews.onPreview, ...unfinished.options },
      onProgress: (progress) => {
        unfinished.onProgress(progress);
        onProgress(progress);
      },
    }).finally(() => previews.end());
    post({ job, memory: open.gpu.memory });
    return { ...made, tiles: recorder && await recorder.save(tileMap!) };
  };
  try {
    await told;
    planning ??= await PlanningModel.open(opening!.open);
    const ready = await planning.ready(clip), unfinished = new UnfinishedClip(ready, onNote);
    const { record, bytes, seconds, report, tiles } = await render(ready, unfinished).catch(async (error) => {
      if (!(error instanceof DeviceLostError)) throw error;
      onNote(`the GPU was lost while working, so it was opened again, and the clip ${goesOnText(unfinished.latest)}`);
      await workshop.recover();
      lost = true;
      return await render(ready, unfinished);
    });
    await unfinished.remove();
    const routes = report.routes?.map((step) => step.map((heads) => heads.join("")));
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
