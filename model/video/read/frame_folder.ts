import { join } from "node:path";
import type { Pictures } from "./timed_picture.ts";
import { isStill, readStill } from "./still.ts";

/**
 * Names of the PNG and JPEG files of a folder, in their order as frames: numbers in names count as numbers, so that
 * `frame9` comes before `frame10`. Other files do not count.
 */
export async function frameNames(folder: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (!isDirectory && !name.startsWith(".") && isStill(name)) names.push(name);
  }
  const order = new Intl.Collator("en", { numeric: true });
  return names.sort((a, b) => order.compare(a, b) || (a < b ? -1 : 1));
}

/** The folder's pictures as frames of a clip at `fps` frames a second. */
export async function* readFrameFolder(folder: string, fps: number): Pictures & AsyncGenerator {
  for (const [i, name] of (await frameNames(folder)).entries()) {
    const { width, height, rgb } = await readStill(join(folder, name));
    yield { end: (i + 1) / fps, width, height, rgb: () => rgb };
  }
}
