/**
 * Opens files of tensors by what they are, not by what they are called.
 *
 * @module
 */
import type { ByteSource, StoredFile } from "../files/store.ts";
import { notWanted, type Recognised, recogniseOpened } from "./recognise.ts";
import type { TensorSource } from "./tensor_source.ts";
import { checkFinished } from "./unfinished.ts";

/** For each kind of file, what reads its header. The tensors take the open file over. */
export type Containers = Partial<Record<Recognised["kind"], (file: ByteSource) => Promise<TensorSource>>>;

/**
 * Opens a file of one of these kinds.
 *
 * @param wanted what is expected there, for the message where it is a file of another kind
 * @throws {TilereelError} if there is no such file, it is of another kind, truncated or corrupt
 */
export async function openContainer(file: StoredFile, wanted: string, containers: Containers): Promise<TensorSource> {
  const source = await file.open(wanted);
  try {
    const recognised = await recogniseOpened(source), container = containers[recognised.kind];
    if (!container) throw notWanted(source.path, recognised, wanted);
    await checkFinished(file);
    return await container(source);
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
}
