/**
 * Reads 9 frames of 32×16 at 16 a second from each of the clips named, and says how that went, a line a clip.
 *
 * @module
 */
import { readClip } from "../model/video/read/read_clip.ts";

for (const path of Deno.args) {
  const shape = { width: 32, height: 16, frames: 9, fps: 16 };
  console.log(await readClip(path, shape).then(({ frames }) => `${frames} frames`, (error) => String(error)));
}
