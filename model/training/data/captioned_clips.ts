import { join, resolve } from "node:path";
import { frameNames } from "../../video/read/frame_folder.ts";
import { type ClipShape, ClipTooShort, readClip } from "../../video/read/read_clip.ts";
import type { Family } from "../../family.ts";
import { checkClip } from "../../video_size.ts";
import { findClips } from "./clip_folder.ts";
import type { CaptionedClip } from "./encoded_set.ts";
import type { Recipe } from "./latent_cache.ts";

/**
 * The clips of a folder (see {@linkcode findClips}), each brought to `shape` when it is read.
 *
 * @param onNote called with a sentence about each clip that turns out too short and is left out
 * @throws {TilereelError} if the shape does not fit the model, there is no clip, or a caption is missing
 */
export async function captionedClips(
  folder: string,
  shape: ClipShape,
  { multiples }: Pick<Family, "multiples">,
  onNote: (note: string) => void,
): Promise<CaptionedClip[]> {
  checkClip(multiples, shape);
  const clips = await findClips(folder);
  return await Promise.all(clips.map(async ({ path, caption }): Promise<CaptionedClip> => ({
    caption,
    origin: { ...shape, ...await originOf(path) },
    read: async () => {
      try {
        return await readClip(path, shape);
      } catch (error) {
        if (!(error instanceof ClipTooShort)) throw error;
        onNote(`${error.message}; it is left out`);
        return undefined;
      }
    },
  })));
}

/** The path of a clip, and the size and age of its file, or of all its frames. */
async function originOf(path: string): Promise<Recipe> {
  const files = (await Deno.stat(path)).isDirectory ? (await frameNames(path)).map((name) => join(path, name)) : [path];
  const stats = await Promise.all(files.map((file) => Deno.stat(file)));
  return {
    path: resolve(path),
    files: files.length,
    bytes: stats.reduce((sum, { size }) => sum + size, 0),
    changed: Math.max(...stats.map(({ mtime }) => mtime?.getTime() ?? 0)),
  };
}
