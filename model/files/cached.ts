import type { ByteSource, FileStore, StoredFile } from "./store.ts";

/** Keeps bytes by key, as a page does in its storage. It is a cache: bytes may be missing, and no function throws. A `Map` is one. */
export interface BytesStore {
  get(key: string): Uint8Array | undefined | Promise<Uint8Array | undefined>;
  /** What it returns is awaited. */
  set(key: string, bytes: Uint8Array): unknown;
}

/**
 * A folder that keeps what was read of another one. Blocks that are streamed are read again at every step; over
 * {@link httpFolder} they are then downloaded once. Each range that was read takes its length in `kept`: in the end as
 * much as the model's files. Files are told apart by path and size, so clear `kept` where a file changes otherwise.
 */
export function cachedFolder(folder: FileStore, kept: BytesStore): FileStore {
  return {
    path: folder.path,
    name: folder.name,
    get parent() {
      return folder.parent && cachedFolder(folder.parent, kept);
    },
    kind: () => folder.kind(),
    list: () => folder.list(),
    file: (name) => cachedFile(folder.file(name), kept),
    folder: (name) => cachedFolder(folder.folder(name), kept),
  };
}

function cachedFile(file: StoredFile, kept: BytesStore): StoredFile {
  return {
    path: file.path,
    name: file.name,
    get parent() {
      return file.parent && cachedFolder(file.parent, kept);
    },
    kind: () => file.kind(),
    open: async (wanted) => cachedSource(await file.open(wanted), kept),
  };
}

function cachedSource(source: ByteSource, kept: BytesStore): ByteSource {
  const { path, size } = source;
  const read = async (start: number, into: Uint8Array) => {
    const key = `${path} (${size}): ${start}+${into.length}`, found = await kept.get(key);
    if (found?.length === into.length) return into.set(found);
    await source.read(start, into);
    // The caller may write to its array again.
    await kept.set(key, into.slice());
  };
  return { path, size, read, [Symbol.dispose]: () => source[Symbol.dispose]() };
}
