import { TilereelError } from "../../gpu/common/errors.ts";
import { fileOf, folderAt } from "../files/disk.ts";
import { notFound } from "../files/file_error.ts";
import type { ByteSource, FileStore, StoredFile } from "../files/store.ts";

/** Where a part of a model is: a folder, or a single file that holds its weights. */
export type PartPlace = string | FileStore | StoredFile;

/** What is used in place of a model's own parts, by the parts' names in `Family.parts`. */
export type GivenParts = Readonly<Record<string, PartPlace>>;

/**
 * A given part as a folder. A single file holds only weights, so the part's other files, such as `config.json`, come
 * from the model's own part.
 *
 * @param what the part, in messages
 * @throws {TilereelError} if there is nothing, or a file where only a folder can be
 */
export async function givenPart(place: PartPlace, own: FileStore, what: string, single: boolean): Promise<FileStore> {
  const given = typeof place === "string" ? folderAt(place) : place, kind = await given.kind();
  if (kind === undefined) throw notFound(given.path, `the ${what}`);
  if ("list" in given && kind === "folder") return given;
  if (single) return new SingleFile(given, own);
  throw new TilereelError(
    `${given.path} is a file, but a folder was expected, because the ${what} has several files`,
  );
}

/** A single file; what is beside it is the model's own. */
class SingleFile implements FileStore, StoredFile {
  readonly path: string;
  readonly name: string;
  readonly parent: FileStore | undefined;

  constructor(private readonly given: FileStore | StoredFile, private readonly own: FileStore) {
    ({ path: this.path, name: this.name, parent: this.parent } = given);
  }

  kind(): Promise<"file"> {
    return Promise.resolve("file");
  }

  open(wanted?: string): Promise<ByteSource> {
    return fileOf(this.given).open(wanted);
  }

  list(): Promise<string[]> {
    return this.own.list();
  }

  file(name: string): StoredFile {
    return this.own.file(name);
  }

  folder(name: string): FileStore {
    return this.own.folder(name);
  }
}
