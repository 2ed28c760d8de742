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
const { encodeVideo, memoryFolder, openGpu, VideoPipeline } = await import(bundle);
const gpu = await openGpu();
const pipeline = await VideoPipeline.load(memoryFolder(files), { gpu });
const video = await pipeline.generate({
  prompt: "a red circle",
  width: 32,
  height: 32,
  frames: 5,
  steps: 2,
});
const { data, ...clip } = video, sizes = [];
for (const format of ["mp4", "gif", "png"]) {
  sizes.push((await encodeVideo(video, format, { record: { prompt: "a red circle" } })).length);
}
stdout.writeSync(new TextEncoder().encode(JSON.stringify({ ...clip, shades: new Set(data).size, sizes })));
exit(0);
