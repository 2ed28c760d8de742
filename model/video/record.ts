/**
 * What made a clip, carried by the clip's own file: written as JSON where each format keeps comments, and read back.
 *
 * All files have the same text, `{"tilereel": RECORD}`. The name round it tells it from comments of other programs,
 * some of which are JSON, too. It stands where any program shows a file's comment: in MP4 the tag `©cmt`, in GIF the
 * comment extension, in PNG the keyword `Comment` (`parameters` and `prompt`, which other generators write, are formats
 * of their own, and programs that look for them would misread this one), in a folder of frames the file `clip.json`.
 *
 * @module
 */
import { checkPath } from "../../gpu/common/check_options.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { fileAt, folderAt } from "../files/disk.ts";
import { readPart } from "../files/store.ts";
import { frameNames } from "./read/frame_folder.ts";
import { firstRecord, readFileRecord } from "./file_record.ts";
import { checkRecordSize, type ClipRecord } from "./record_text.ts";

/** The record's file in a folder of frames. */
export const RECORD_FILE = "clip.json";

/**
 * The record of a clip that was written as MP4, GIF, PNG (a contact sheet) or a folder of frames.
 *
 * @returns undefined where the file carries none
 * @throws {TilereelError} when the file is none of these, is damaged or cannot be read, or the record is not a JSON
 * object or larger than 1 MiB
 */
export async function readRecord(path: string): Promise<ClipRecord | undefined> {
  checkPath("readRecord: path", path);
  const stored = fileAt(path);
  return await stored.kind() === "folder"
    ? firstRecord(await folderComments(path), path)
    : await readFileRecord(stored);
}

async function folderComments(folder: string): Promise<string[]> {
  const record = folderAt(folder).file(RECORD_FILE);
  if (await record.kind()) {
    using file = await record.open();
    checkRecordSize(record.path, file.size);
    return [new TextDecoder().decode(await readPart(file, 0, file.size))];
  }
  if ((await frameNames(folder)).length > 0) return [];
  throw new TilereelError(`${folder} holds neither frames nor ${RECORD_FILE}: name a clip that tilereel wrote`);
}
