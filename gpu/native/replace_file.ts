import { basename, dirname, join } from "node:path";

/** Temporary files and folders that this thread is writing now. */
const unfinished = new Set<string>();

/**
 * Makes the file or folder `target`, which is replaced as a whole if it is a file or an empty folder. `write` makes it
 * under the temporary name that it is given, in the same folder, which is created if needed; then it is renamed. If
 * anything fails, nothing is left behind.
 *
 * @throws the system's error, or what `write` throws
 */
export async function replaceFile(target: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = join(dirname(target), `.${basename(target).slice(0, 100)}.${crypto.randomUUID().slice(0, 8)}.part`);
  unfinished.add(temporary);
  try {
    await Deno.mkdir(dirname(target), { recursive: true });
    await write(temporary);
    if (!(await Deno.stat(temporary)).isDirectory) {
      // A full disk may be reported only here.
      using file = await Deno.open(temporary, { write: true });
      await file.sync();
    }
    await Deno.rename(temporary, target);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw error;
  } finally {
    unfinished.delete(temporary);
  }
}

/** Removes all that this thread has not finished, at once. It is called just before the program is ended from outside. */
export function removeUnfinished(): void {
  for (const temporary of unfinished) removeNow(temporary);
}

/**
 * Removes the unfinished files of a folder, at once: those of a terminated worker, or of a killed program. No other program
 * may write into the folder. Does nothing if there is no such folder.
 */
export function removeUnfinishedIn(folder: string): void {
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(folder)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  for (const { name } of entries) {
    if (/^\..*\.[0-9a-f]{8}\.part$/s.test(name)) removeNow(join(folder, name));
  }
}

function removeNow(temporary: string): void {
  try {
    Deno.removeSync(temporary, { recursive: true });
  } catch {
    // Not made yet, or gone already.
  }
}
