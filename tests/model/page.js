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
const { memoryFolder, openGpu, VideoPipeline } = await import(bundle);
const gpu = await openGpu();
const pipeline = await VideoPipeline.load(memoryFolder(files), { gpu });
const { data, ...clip } = await pipeline.generate({
  prompt: "a red circle",
  width: 32,
  height: 32,
  frames: 5,
  steps: 2,
});
stdout.writeSync(new TextEncoder().encode(JSON.stringify({ ...clip, shades: new Set(data).size })));
exit(0);
