/**
 * The worker of a page. It takes a model's files, forms of clips, and "cancel"; it posts progress and how a clip ended.
 * Nothing of it needs Deno.
 *
 * @module
 */
/// <reference lib="webworker" />
import { openGpu } from "../../gpu/mod.ts";
import {
  blobFolder,
  type ClipSize,
  encodeVideo,
  type FileFormat,
  type FileStore,
  LastingPipeline,
  modelIdentity,
  openModelFolder,
  overall,
  type Progress,
  VideoPipeline,
} from "../../model/mod.ts";
import { requestOptions } from "../../tools/program/clip/batch_options.ts";
import { checkPrompt, clipSettings, seedOf } from "../../tools/program/clip/clip_settings.ts";
import { readyMethods } from "../../tools/program/clip/method_options.ts";
import { readValues } from "../../tools/program/clip/read_values.ts";
import { plannedRecord } from "../../tools/program/clip/record.ts";

type Form = Readonly<Record<string, unknown>>;

/** What the page sends. */
export type Request =
  /**
   * A model, which takes the place of the one before: its files by their paths in it. A file input has them as
   * `webkitRelativePath`, behind the folder's name; for dropped folders, walk `webkitGetAsEntry()`.
   */
  | {
    readonly model: ReadonlyMap<string, Blob>;
    /** Whether kernels are tried once to find the fastest, which takes up to a minute; and the card's memory in bytes. */
    readonly gpu?: { readonly tune?: boolean; readonly memoryLimit?: number };
    /** The largest clip that the page offers. Weights are placed for it. */
    readonly largest?: ClipSize;
  }
  /** The values of a form by the names of `requestOptions`, and the format of the file. */
  | { readonly form: Form; readonly format: FileFormat }
  | "cancel";

type Dropped = Extract<Request, { readonly model: unknown }>;

/** What the worker posts. */
export type Answer =
  /** From 0 to 1. */
  | { readonly progress: number }
  | { readonly file: Uint8Array<ArrayBuffer>; readonly record: Readonly<Record<string, unknown>> }
  | { readonly error: string };

const post = (answer: Answer) => self.postMessage(answer);
// A page keeps these texts in its storage, such as IndexedDB, so that kernels are tried only once.
const tuned = new Map<string, string>();
const tuningStore = {
  get: (key: string) => tuned.get(key),
  set: (key: string, json: string) => void tuned.set(key, json),
};

let model: FileStore | undefined, dropped: Partial<Dropped> = {}, job: AbortController | undefined;
const lasting = new LastingPipeline(async (options) => {
  using cleanUp = new DisposableStack();
  const gpu = await openGpu({ tuningStore, ...dropped.gpu });
  cleanUp.defer(() => gpu.close());
  const pipeline = await VideoPipeline.load(model!, {
    gpu,
    ...dropped.largest && { clips: [dropped.largest] },
    ...options,
  });
  cleanUp.defer(() => pipeline.close());
  const held = cleanUp.move();
  return { gpu, pipeline, [Symbol.dispose]: () => held.dispose() };
});

self.onmessage = ({ data }: MessageEvent<Request>) => {
  if (data === "cancel") job?.abort(new Error("cancelled"));
  else if ("form" in data) make(data.form, data.format);
  else {
    [model, dropped] = [blobFolder(data.model, "dropped"), data];
    lasting.close();
  }
};

async function make(form: Form, format: FileFormat): Promise<void> {
  const { signal } = job = new AbortController();
  const onProgress = (progress: Progress) => post({ progress: overall(progress) ?? 0 });
  try {
    if (!model) throw new Error("there is no model: drop its folder");
    const { prompt, ...values } = readValues(form, requestOptions, "the form");
    const request = { prompt: checkPrompt(prompt), seed: seedOf(values), values };
    const methods = await readyMethods(values, model), { pipeline } = await lasting.open({ signal, onProgress });
    const settings = clipSettings(request, pipeline.defaults);
    const video = await pipeline.generate({ ...settings, ...methods.options, signal, onProgress });
    const identity = await modelIdentity(await openModelFolder(model));
    const quality = values.quality === undefined ? {} : { quality: values.quality };
    const record = plannedRecord({ settings, methods, model: model.path, identity, opened: pipeline, ...quality });
    post({ file: await encodeVideo(video, format, { record, signal, onProgress, ...quality }), record });
  } catch (error) {
    await lasting.recover();
    post({ error: (error as Error).message });
  }
}
