import { join } from "node:path";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { checkWritable } from "../../model/files/output.ts";
import { RECORD_FILE } from "../../model/video/record.ts";
import { formatOf } from "../../model/video/write_video.ts";

/**
 * Checks that the clip at `out` can be replaced. A folder of frames is only replaced if it has nothing else in it.
 *
 * @throws {TilereelError} if not
 */
export async function checkReplaceable(out: string): Promise<void> {
  const isFolder = formatOf(out) === "frames";
  await checkWritable(out, { asFile: !isFolder });
  const other = isFolder ? [...Deno.readDirSync(out)].find(({ name }) => !isOfClip(name)) : undefined;
  if (other === undefined) return;
  throw new TilereelError(
    `${out} holds ${quoted(other.name)}, which is not part of a clip, so it is not replaced: name another ` +
      `folder with --out`,
  );
}

/** Removes a clip that was written as a folder of frames. */
export async function removeFrames(folder: string): Promise<void> {
  for (const { name } of [...Deno.readDirSync(folder)]) if (isOfClip(name)) await Deno.remove(join(folder, name));
}

function isOfClip(name: string): boolean {
  return name === RECORD_FILE || /^\d{4,}\.png$/.test(name);
}
