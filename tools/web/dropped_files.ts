/// <reference lib="dom" />

/** The files of a folder that was chosen, by their paths in it. */
export function filesOfInput(files: FileList): ReadonlyMap<string, Blob> {
  return new Map([...files].map((file) => [withoutFolder(file.webkitRelativePath || file.name), file]));
}

/** The files of what was dropped, by their paths: those in one folder without its name. */
export async function droppedFiles({ items }: DataTransfer): Promise<ReadonlyMap<string, Blob>> {
  // Entries must be asked for before the first wait.
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const found = new Map<string, Blob>();
  for (const entry of entries) await walk(entry, entry.isDirectory ? "" : entry.name, found);
  return found;
}

async function walk(entry: FileSystemEntry, path: string, found: Map<string, Blob>): Promise<void> {
  if (entry.isFile) {
    found.set(path, await new Promise<File>((done, failed) => (entry as FileSystemFileEntry).file(done, failed)));
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // Each call gives some of the entries, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((done, failed) => reader.readEntries(done, failed));
    if (some.length === 0) return;
    for (const inner of some) await walk(inner, path === "" ? inner.name : `${path}/${inner.name}`, found);
  }
}

function withoutFolder(path: string): string {
  return path.slice(path.indexOf("/") + 1);
}
