/**
 * The server's second worker: it counts and measures on the CPU what would keep the server from answering.
 *
 * @module
 */
/// <reference lib="webworker" />
import { OutOfMemoryError, TilereelError } from "../../gpu/common/errors.ts";
import { dryGpuOf } from "../../gpu/device/dry.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { WeightsPlace } from "../../model/blocks/weights_place.ts";
import { type CountedClip, peakOf } from "../../model/estimate/clip_memory.ts";
import { clipSeconds } from "../../model/estimate/clip_time.ts";
import { expectedDensity } from "../../model/estimate/expected_density.ts";
import { knownGpu } from "../../model/estimate/gpus.ts";
import { count } from "../../model/estimate/what_fits.ts";
import { workOf } from "../../model/estimate/work_of.ts";
import { loadedAs } from "../../model/model_variant.ts";
import { createScheduler } from "../../model/schedulers/scheduler.ts";
import { psnr, ssim } from "../../model/video/quality.ts";
import { readClip } from "../../model/video/read/read_clip.ts";
import { variantOf } from "../../tools/program/model_options.ts";
import { PlanningModel, type ReadyClip } from "../generate/plan.ts";
import type { Cost, FromSideWorker, Likeness, Planned, SideAnswer, SideTask, ToSideWorker } from "./side_messages.ts";

const post = (answer: FromSideWorker) => self.postMessage(answer);

let opening: Extract<ToSideWorker, { readonly open: unknown }> | undefined, planning: PlanningModel | undefined;
/** Where weights are, which is decided for the largest clip. */
let place: WeightsPlace | undefined;
/** Tasks are done one after the other. */
let last: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<ToSideWorker>) => {
  if ("open" in data) opening = data;
  else last = last.then(() => answer(data.id, data.work));
};

async function answer(id: number, work: SideTask): Promise<void> {
  try {
    post({ id, answer: await answerTo(work) });
  } catch (error) {
    const bug = !(error instanceof TilereelError), option = bug ? undefined : error.option;
    post({ id, error: (error as Error).message, bug, ...option !== undefined && { option } });
  }
}

async function answerTo(work: SideTask): Promise<SideAnswer> {
  if (work.task === "likeness") return await likenessOf(work);
  planning ??= await PlanningModel.open(opening!.open);
  return work.task === "plan" ? await planOf(planning, work) : await costOf(planning, work);
}

async function planOf(
  planning: PlanningModel,
  { clip, pixels }: Extract<SideTask, { readonly task: "plan" }>,
): Promise<Planned> {
  const { settings: { width, height, frames, fps }, record } = await planning.ready(clip, { pixels });
  return { settings: { width, height, frames, fps }, record };
}

async function costOf(
  planning: PlanningModel,
  { gpu: facts, clip }: Extract<SideTask, { readonly task: "cost" }>,
): Promise<Cost> {
  const ready = await planning.ready(clip, { pictures: false }),
    { settings, methods: { options: { attention } } } = ready;
  const { model } = planning, gpu = dryGpuOf(facts), known = knownGpu(gpu), { precision } = gpu;
  const { timesteps } = createScheduler(model.scheduler, { ...settings, kind: settings.scheduler });
  const density = await expectedDensity(gpu, model, { ...settings, timesteps: [...timesteps] }, attention);
  const time = known && density !== undefined && precision !== "f32"
    ? clipSeconds(known, workOf(model, settings, density), precision)
    : undefined;
  return {
    ...await memoryOf(gpu, ready),
    ...density !== undefined && { density },
    ...time && { seconds: time.steps + time.decode },
  };
}

async function memoryOf(
  gpu: Gpu,
  { settings: { width, height, frames, guidance }, methods: { options } }: ReadyClip,
): Promise<Pick<Cost, "memory" | "obstacle">> {
  const { open: values, largest } = opening!, { model } = planning!;
  const { weightDtype, adjust } = loadedAs(await variantOf(values));
  const counted = (clip: Pick<CountedClip, "width" | "height" | "frames" | "weights" | "attention" | "cache">) =>
    count(gpu, model, { ...clip, ...{ guidance, weightDtype, adjust, pictures: false } });
  try {
    place ??= (await counted({ ...largest, weights: values.weights })).place;
    return { memory: peakOf(await counted({ width, height, frames, weights: place, ...options })) };
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    return { obstacle: error.message };
  }
}

async function likenessOf(
  { paths, shape }: Extract<SideTask, { readonly task: "likeness" }>,
): Promise<Likeness> {
  const [first, second] = [await readClip(paths[0], shape), await readClip(paths[1], shape)];
  const decibels = psnr(first.data, second.data), { width, height } = shape;
  return {
    psnr: decibels === Infinity ? null : decibels,
    ssim: Math.min(width, height) > 10 ? ssim(first, second) : null,
  };
}
