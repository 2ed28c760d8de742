/**
 * Removes what a clip consists of that was written as a folder of frames. Other files there are the user's own.
 *
 * @module
 */
import { join } from "node:path";
import { RECORD_FILE } from "../video/record.ts";

/** Leaves the folder, empty unless it holds something else. */
export async function removeFrames(folder: string): Promise<void> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name);
  for (const name of names) {
    if (name === RECORD_FILE || /^\d{4,}\.png$/.test(name)) await Deno.remove(join(folder, name));
  }
}
