/**
 * Runs a bundle as a page would, without Deno: it loads a model that is in memory and renders a tiny clip.
 * Arguments: the bundle's address, and the model's folder.
 *
 * @module
 */
import { filesIn } from "./files/files_in.ts";

const [bundle, folder] = Deno.args, files = await filesIn(folder), { exit, stdout } = Deno;
delete globalThis.Deno;
delete globalThis.process;
const page = await import(bundle), { clipOptions, clipSettings, encodeVideo, memoryFolder, modelIdentity } = page;
const { openGpu, openModelFolder, plannedRecord, readValues, readyMethods, VideoPipeline } = page;
// Of the browser's storage in a real page.
const tuned = new Map();
const gpu = await openGpu({
  tuningStore: { get: (key) => tuned.get(key), set: (key, json) => void tuned.set(key, json) },
});
const model = memoryFolder(files), pipeline = await VideoPipeline.load(model, { gpu });
const values = readValues({ size: "32x32", frames: 5, steps: 2 }, clipOptions, "the page's form");
const settings = clipSettings({ prompt: "a red circle", seed: 1, values }, pipeline.defaults);
const methods = await readyMethods({ attention: "vorta" }, model);
const video = await pipeline.generate({ ...settings, ...methods.options });
const identity = await modelIdentity(await openModelFolder(model));
const made = { settings, model: model.path, identity, opened: pipeline };
const record = plannedRecord({ ...made, methods });
const veda = plannedRecord({ ...made, methods: await readyMethods({ attention: "veda" }, model) });
const { data, ...clip } = video, sizes = [];
for (const format of ["mp4", "gif", "png"]) sizes.push((await encodeVideo(video, format, { record })).length);
const told = { ...clip, shades: new Set(data).size, sizes, records: { vorta: record, veda } };
stdout.writeSync(new TextEncoder().encode(JSON.stringify(told)));
exit(0);
