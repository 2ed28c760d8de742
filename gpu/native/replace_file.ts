import { basename, dirname, join } from "node:path";
import { isAbandoned, isTemporary, temporaryName } from "./temporary_name.ts";

/** Temporary files and folders that this thread is writing now. */
const unfinished = new Set<string>();
/** Folders in which this thread has looked for what killed runs left behind. */
const tidied = new Set<string>();

/**
 * Makes the file or folder `target`, which is replaced as a whole if it is a file or an empty folder. `write` makes it
 * under the temporary name that it is given, in the same folder, which is created if needed; then it reaches the disk,
 * and is renamed. If anything fails, nothing is left behind. What killed runs left behind in that folder is removed.
 *
 * @throws the system's error, or what `write` throws
 */
export async function replaceFile(target: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const folder = dirname(target), temporary = join(folder, temporaryName(basename(target)));
  unfinished.add(temporary);
  try {
    await Deno.mkdir(folder, { recursive: true });
    removeAbandoned(folder);
    await write(temporary);
    await sync(temporary);
    await Deno.rename(temporary, target);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw error;
  } finally {
    unfinished.delete(temporary);
  }
}

/** Waits until a file, or all files of a folder, are on the disk. A full disk may be reported only here. */
async function sync(path: string): Promise<void> {
  if ((await Deno.stat(path)).isDirectory) {
    for await (const { name } of Deno.readDir(path)) await sync(join(path, name));
    return;
  }
  using file = await Deno.open(path, { write: true });
  await file.sync();
}

/** Removes the unfinished files of a folder whose writers are dead; once in a thread, as folders may be large. */
export function removeAbandoned(folder: string): void {
  if (tidied.has(folder)) return;
  tidied.add(folder);
  removeIn(folder, (name, path) => isAbandoned(name, () => Date.now() - (Deno.lstatSync(path).mtime?.getTime() ?? 0)));
}

/** Removes all that this thread has not finished, at once. It is called just before the program is ended from outside. */
export function removeUnfinished(): void {
  for (const temporary of unfinished) {
    try {
      Deno.removeSync(temporary, { recursive: true });
    } catch {
      // Not made yet, or gone already.
    }
  }
}

/**
 * Removes the unfinished files of a folder, at once: those of a terminated worker, or of a killed program. No other program
 * may write into the folder.
 */
export function removeUnfinishedIn(folder: string): void {
  removeIn(folder, isTemporary);
}

function removeIn(folder: string, which: (name: string, path: string) => boolean): void {
  let names: string[];
  try {
    names = Array.from(Deno.readDirSync(folder), ({ name }) => name);
  } catch {
    // There is no such folder, or it can be written but not listed.
    return;
  }
  for (const name of names) {
    const path = join(folder, name);
    try {
      if (which(name, path)) Deno.removeSync(path, { recursive: true });
    } catch {
      // It is gone already.
    }
  }
}
