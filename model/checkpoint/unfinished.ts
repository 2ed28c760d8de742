import { TilereelError } from "../../gpu/common/errors.ts";
import type { FileStore, StoredFile } from "../files/store.ts";

/** The extensions that hf download, aria2, browsers, wget and curl's wrappers use. */
const MARK = /\.(incomplete|aria2|part|partial|crdownload|download|tmp)$/i;
/** Where "hf download --local-dir" keeps incomplete files, in the folder of the model. */
const HF_CACHE = ".cache/huggingface/download";

/**
 * The path of a mark that a program left in `folder` beside an unfinished download; undefined if there is none.
 *
 * @param part one of a model's parts, whose marks "hf download" keeps in the parent folder
 */
export async function unfinishedIn(folder: FileStore): Promise<string | undefined> {
  for (const place of [folder, folder.folder(HF_CACHE), folder.parent?.folder(`${HF_CACHE}/${folder.name}`)]) {
    const names = await place?.list().catch(() => []);
    const found = names?.filter((name) => MARK.test(name)).sort()[0];
    if (found !== undefined) return place!.file(found).path;
  }
  return undefined;
}

/** `; ` and advice for something that is missing in `folder`, depending on whether a download is in progress. */
export async function getIt(folder: FileStore, otherwise: string): Promise<string> {
  const mark = await unfinishedIn(folder);
  return mark === undefined ? otherwise : `its download is not complete (${mark}), so finish the download`;
}

/**
 * aria2 gives a file its full length at once and fills it in any order, so only its mark shows that data is missing.
 *
 * @throws {TilereelError} if the file is not complete
 */
export async function checkFinished({ path, name, parent }: StoredFile): Promise<void> {
  if (!await parent?.file(`${name}.aria2`).kind().catch(() => undefined)) return;
  throw new TilereelError(
    `${path} is not complete, because ${name}.aria2 is beside it; finish its download`,
  );
}
