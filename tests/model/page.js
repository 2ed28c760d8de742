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
const { encodeVideo, memoryFolder, modelIdentity, openGpu, openModelFolder, readyAttention, VideoPipeline } =
  await import(bundle);
const gpu = await openGpu();
const model = memoryFolder(files), pipeline = await VideoPipeline.load(model, { gpu });
const vorta = await readyAttention({ attention: "vorta" }, model);
const veda = await readyAttention({ attention: "veda" }, model);
const video = await pipeline.generate({
  prompt: "a red circle",
  width: 32,
  height: 32,
  frames: 5,
  steps: 2,
  attention: vorta.method,
});
const identity = await modelIdentity(await openModelFolder(model)), grid = [2, 2, 2];
const attention = { vorta: vorta.settings(grid), veda: veda.settings(grid) };
const { data, ...clip } = video, sizes = [];
for (const format of ["mp4", "gif", "png"]) {
  sizes.push((await encodeVideo(video, format, { record: { prompt: "a red circle" } })).length);
}
stdout.writeSync(
  new TextEncoder().encode(JSON.stringify({ ...clip, shades: new Set(data).size, sizes, attention, identity })),
);
exit(0);
