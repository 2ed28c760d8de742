import { join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { fileError, isNotFound } from "../../model/files/file_error.ts";
import type { ComparedPrompt } from "../compare/comparison.ts";

/** The most bytes of clips in a page: larger pages are slow to open on a phone. */
const MOST_BYTES = 50e6;

/** A prompt's clips as data URIs, in the settings' order. */
export interface EmbeddedPrompt extends ComparedPrompt {
  readonly media: readonly { readonly video: string; readonly poster: string }[];
}

/**
 * Reads the clips of the first prompts of a comparison in `folder`: as many as fit into `most` bytes of the page, but
 * those of one prompt at least.
 *
 * @throws {TilereelError} when one of them cannot be read
 */
export async function embedClips(
  folder: string,
  prompts: readonly ComparedPrompt[],
  most = MOST_BYTES,
): Promise<EmbeddedPrompt[]> {
  const embedded: EmbeddedPrompt[] = [];
  let bytes = 0;
  for (const prompt of prompts) {
    const own = join(folder, prompt.folder);
    const read = async (name: string, type: string) => dataUri(await readClip(join(own, name), own), type);
    const media = await Promise.all(prompt.clips.map(async ({ file, poster }) => ({
      video: await read(file, "video/mp4"),
      poster: await read(poster, "image/png"),
    })));
    for (const { video, poster } of media) bytes += video.length + poster.length;
    if (bytes > most && embedded.length > 0) break;
    embedded.push({ ...prompt, media });
  }
  return embedded;
}

/** @throws {TilereelError} when it is gone */
async function readClip(path: string, folder: string): Promise<Uint8Array> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (!isNotFound(error)) throw fileError(path, "read", error);
    throw new TilereelError(`${path} no longer exists: remove ${folder} to render its clips again`, { cause: error });
  }
}

function dataUri(bytes: Uint8Array, type: string): string {
  return `data:${type};base64,${bytes.toBase64()}`;
}
