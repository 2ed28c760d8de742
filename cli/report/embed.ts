/**
 * The clips that go into a page, as data URIs.
 *
 * @module
 */
import { join } from "node:path";
import type { ComparedPrompt } from "../compare/comparison.ts";

/** A page of more than this many bytes of clips is slow to open on a phone. */
const MOST_BYTES = 50e6;

/** A prompt's clips as data URIs, in the settings' order. */
export interface EmbeddedPrompt extends ComparedPrompt {
  readonly media: readonly { readonly video: string; readonly poster: string }[];
}

/**
 * Reads the clips of a comparison in `folder`: those of the first prompts, as many as stay within `most` bytes in the
 * page, but of one prompt at least.
 */
export async function embedClips(
  folder: string,
  prompts: readonly ComparedPrompt[],
  most = MOST_BYTES,
): Promise<EmbeddedPrompt[]> {
  const embedded: EmbeddedPrompt[] = [];
  let bytes = 0;
  for (const prompt of prompts) {
    const read = async (name: string, type: string) =>
      dataUri(await Deno.readFile(join(folder, prompt.folder, name)), type);
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

function dataUri(bytes: Uint8Array, type: string): string {
  return `data:${type};base64,${bytes.toBase64()}`;
}
