import { resolve } from "node:path";
import { printable, TilereelError } from "../../gpu/common/errors.ts";
import { checkWritable } from "../../model/files/output.ts";
import type { VideoPipeline } from "../../model/pipeline.ts";
import { Previews } from "../../model/previews.ts";
import { writeVideo } from "../../model/video/write_video.ts";

/** What --preview has: a file, or true for one beside the clip. */
export type PreviewValue = string | true;

/** The files that it takes. */
export const PREVIEW_FILE = /\.(gif|png|mp4)$/i;

/** @throws {TilereelError} if previews cannot be written to that file */
export async function checkPreview(preview: PreviewValue | undefined, clips: readonly string[]): Promise<void> {
  if (typeof preview !== "string") return;
  const isClip = clips.includes(preview);
  if (isClip || !PREVIEW_FILE.test(preview)) {
    throw new TilereelError(
      `--preview ${preview} is ${
        isClip ? "the clip itself" : "no file for a preview"
      }; name a file of its own that ends in ` +
        `.gif, .png or .mp4`,
    );
  }
  await checkWritable(preview, { asFile: true });
}

/** The previews of one clip, in a file. */
export class PreviewFile {
  readonly #previews: Previews;
  readonly #place: string;
  #written = false;

  /**
   * @param out the clip
   * @param onNote told where the first preview is, and why there are none
   */
  constructor(
    pipeline: VideoPipeline,
    private readonly preview: PreviewValue,
    { out, fps, onNote }: { readonly out: string; readonly fps: number; readonly onNote: (note: string) => void },
  ) {
    this.#place = preview === true ? besideClip(out) : preview;
    this.#previews = new Previews(pipeline, {
      ...{ fps, onNote },
      show: async (video) => {
        await writeVideo(this.#place, video);
        if (!this.#written) onNote(`the clip is shown while it forms in ${printable(this.#place)}`);
        this.#written = true;
      },
    });
  }

  get onPreview(): Previews["onPreview"] {
    return this.#previews.onPreview;
  }

  /** Call this when the clip is done or has failed. Beside a clip that is done, the preview is removed. */
  async end(done: boolean): Promise<void> {
    await this.#previews.end();
    if (done && this.preview === true && this.#written) await remove(this.#place);
  }
}

/** Removes the previews beside clips that are done, which runs left behind that were killed just then. */
export async function removePreviews(clips: readonly { readonly out: string }[]): Promise<void> {
  for (const { out } of clips) await remove(besideClip(out));
}

function besideClip(out: string): string {
  // Of a folder without a name, such as the current one, it would lie in the folder, which would then not be replaced.
  const named = /^(.*[\\/])?\.\.?[\\/]$/s.test(out) ? resolve(out) : out;
  return `${named.replace(/(\.[^.\\/]*|[\\/])$/, "")}.preview.gif`;
}

async function remove(file: string): Promise<void> {
  await Deno.remove(file).catch(() => {/* It is gone already. */});
}
