/**
 * The worker of the page: it opens the GPU, loads a model and renders clips, so that the page stays responsive. Nothing of
 * it needs Deno.
 *
 * @module
 */
/// <reference lib="webworker" />
import { openGpu } from "../../gpu/mod.ts";
import {
  type AttentionReport,
  blobFolder,
  encodeVideo,
  type FileStore,
  httpFolder,
  LastingPipeline,
  modelIdentity,
  openModelFolder,
  overall,
  Previews,
  type Progress,
  VideoPipeline,
} from "../../model/mod.ts";
import { requestOptions } from "../program/clip/batch_options.ts";
import { checkPrompt, clipSettings, seedOf } from "../program/clip/clip_settings.ts";
import { readyMethods } from "../program/clip/method_options.ts";
import { readValues } from "../program/clip/read_values.ts";
import { plannedRecord } from "../program/clip/record.ts";
import type { Answer, Form, Request } from "./messages.ts";

type Opening = Extract<Request, { readonly model: unknown }>;

/** A list of the paths of a folder's files, which a folder at an address has beside them. */
const FILE_LIST = "files.json";

const post = (answer: Answer) => self.postMessage(answer);

// Trials are remembered as long as the page is open.
const tuned = new Map<string, string>();
const tuningStore = {
  get: (key: string) => tuned.get(key),
  set: (key: string, json: string) => void tuned.set(key, json),
};

let opening: Opening | undefined, model: FileStore | undefined, job: AbortController | undefined;

const lasting = new LastingPipeline(async (options) => {
  using cleanUp = new DisposableStack();
  const gpu = await openGpu({ tuningStore, ...opening!.gpu });
  cleanUp.defer(() => gpu.close());
  post({ adapter: gpu.settings.description, precision: gpu.precision });
  const pipeline = await VideoPipeline.load(model!, {
    gpu,
    ...opening!.largest && { clips: [opening!.largest] },
    ...options,
  });
  cleanUp.defer(() => pipeline.close());
  const held = cleanUp.move();
  return { gpu, pipeline, [Symbol.dispose]: () => held.dispose() };
});

self.onmessage = ({ data }: MessageEvent<Request>) => {
  if (data === "cancel") job?.abort(new Error("cancelled"));
  else if ("form" in data) answered((signal) => render(data.form, signal));
  else if ("encode" in data) answered((signal) => encode(data, signal));
  else {
    [opening, model] = [data, undefined];
    lasting.close();
  }
};

/** Does a job, and posts the error if there is one. */
async function answered(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  job = new AbortController();
  try {
    await work(job.signal);
  } catch (error) {
    await lasting.recover();
    post({ error: (error as Error).message });
  }
}

async function render(form: Form, signal: AbortSignal): Promise<void> {
  const start = performance.now();
  const onProgress = (told: Progress) =>
    post({ progress: overall(told) ?? 0, stage: told.stage, done: told.done, total: told.total });
  model ??= await openFolder();
  const { prompt, ...values } = readValues(form, requestOptions, "the form");
  const request = { prompt: checkPrompt(prompt), seed: seedOf(values), values };
  const methods = await readyMethods(values, model), { pipeline } = await lasting.open({ signal, onProgress });
  const settings = clipSettings(request, pipeline.defaults);
  let report: AttentionReport = { density: 1 };
  const previews = new Previews(pipeline, { fps: settings.fps, show: (preview) => post({ preview }) });
  const video = await pipeline.generate({
    ...settings,
    ...methods.options,
    ...{ signal, onProgress },
    onAttention: (told) => report = told,
    onNote: (note) => post({ note }),
    onPreview: previews.onPreview,
  }).finally(() => previews.end());
  const identity = await modelIdentity(await openModelFolder(model));
  const record = {
    ...plannedRecord({ settings, methods, model: model.path, identity, opened: pipeline }),
    density: Number(report.density.toFixed(4)),
  };
  const { density, routes } = report, seconds = (performance.now() - start) / 1000;
  post({ clip: { video, record, density, ...routes && { routes }, seconds } });
}

async function encode({ encode, format }: Extract<Request, { readonly encode: unknown }>, signal: AbortSignal) {
  const { video, record } = encode;
  const onProgress = ({ stage, done, total }: Progress) => post({ progress: done / total, stage, done, total });
  post({ file: await encodeVideo(video, format, { record, signal, onProgress }), format });
}

/** The folder that was asked for, with a list of its files: a page cannot list a folder at an address. */
async function openFolder(): Promise<FileStore> {
  if (!opening) throw new Error("there is no model: choose its folder");
  const { model } = opening;
  if (typeof model !== "string") return blobFolder(model, "dropped");
  const answer = await fetch(`${model}/${FILE_LIST}`);
  if (!answer.ok) {
    throw new Error(`${model}/${FILE_LIST} could not be loaded (status ${answer.status}): reload the page`);
  }
  return httpFolder(model, { files: await answer.json() });
}
