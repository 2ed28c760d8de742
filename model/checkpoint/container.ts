import type { ByteSource, StoredFile } from "../files/store.ts";
import { notWanted, type Recognised, recogniseOpened } from "./recognise.ts";
import type { TensorSource } from "./tensor_source.ts";
import { checkFinished } from "./unfinished.ts";

/** A kind of files that hold tensors. */
export interface Container {
  /** What such files are recognised as. */
  readonly kinds: readonly Recognised["kind"][];
  /** What the names of such files end in, by which they are found in a folder; without a dot. */
  readonly ending: string;
  /** Whether an index beside such files, `<stem>.<ending>.index.json`, says which of them holds which tensor. */
  readonly hasIndex?: boolean;
  /** Reads the header. The tensors take the open file over. */
  open(file: ByteSource): Promise<TensorSource>;
}

/**
 * Opens a file of one of these kinds, by what it is, not by what it is called.
 *
 * @param wanted what is expected there, for the message where it is a file of another kind
 * @throws {TilereelError} if there is no such file, it is of another kind, truncated or corrupt
 */
export async function openContainer(
  file: StoredFile,
  wanted: string,
  containers: readonly Container[],
): Promise<TensorSource> {
  const source = await file.open(wanted);
  try {
    const recognised = await recogniseOpened(source);
    const container = containers.find(({ kinds }) => kinds.includes(recognised.kind));
    if (!container) throw notWanted(source.path, recognised, wanted);
    await checkFinished(file);
    return await container.open(source);
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
}
