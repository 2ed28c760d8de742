/**
 * Writes files that appear under their name only once they are complete.
 *
 * @module
 */
import { fileError } from "./file_error.ts";
import { placeOf } from "../checkpoint/place.ts";

/** Temporary files that are being written now. */
const unfinished = new Set<string>();

/** Removes all unfinished files at once. It is called just before the program is ended from outside. */
export function removeUnfinishedFiles(): void {
  for (const temporary of unfinished) {
    try {
      Deno.removeSync(temporary);
    } catch {
      // The file is not created yet, or already gone.
    }
  }
}

/**
 * Calls `write` to fill a temporary file beside `path`, then renames it to `path`, replacing what was there. If
 * anything fails, the temporary file is removed and `path` is left unchanged.
 *
 * @throws {TilereelError} if the file cannot be written.
 */
export async function writeFileAtomically(path: string, write: (file: Deno.FsFile) => Promise<void>): Promise<void> {
  const place = await placeOf(path).catch((error) => {
    throw fileError(path, "written", error);
  });
  const temporary = `${place}.${crypto.randomUUID()}.tmp`;
  unfinished.add(temporary);
  try {
    {
      using file = await Deno.open(temporary, { write: true, createNew: true });
      await write(file);
      // A full disk may be reported only here.
      await file.sync();
    }
    await Deno.rename(temporary, place);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    if (error instanceof Deno.errors.NotFound) {
      throw fileError(path, "written", new Error("its folder does not exist"));
    }
    throw fileError(path, "written", error);
  } finally {
    unfinished.delete(temporary);
  }
}
