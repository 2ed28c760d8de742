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
import { isJsonObject } from "../checkpoint/json.ts";
import { parseJson } from "../checkpoint/parse_json.ts";
import { fileAt, folderAt } from "../files/disk.ts";
import { readPart } from "../files/store.ts";
import { gifComments } from "./comment/gif.ts";
import { mp4Comments } from "./comment/mp4.ts";
import { pngComments } from "./comment/png.ts";
import { frameNames } from "./read/frame_folder.ts";
import { checkRecordSize, type ClipRecord, NAME } from "./record_text.ts";

/** The record's file in a folder of frames. */
export const RECORD_FILE = "clip.json";
/** The files that {@link readRecord} expects at a path. */
const WANTED = "a clip that tilereel wrote";

/**
 * The record of a clip that was written as MP4, GIF, PNG (a contact sheet) or a folder of frames.
 *
 * @returns undefined where the file carries none
 * @throws {TilereelError} when the file is none of these, is damaged or cannot be read, or the record is not a JSON
 * object or larger than 1 MiB
 */
export async function readRecord(path: string): Promise<ClipRecord | undefined> {
  checkPath("readRecord: path", path);
  for (const text of await comments(path)) {
    const record = parseRecord(text, path);
    if (record) return record;
  }
}

async function comments(path: string): Promise<string[]> {
  const stored = fileAt(path);
  if (await stored.kind() === "folder") return await folderComments(path);
  using file = await stored.open(WANTED);
  const magic = String.fromCharCode(...await readPart(file, 0, 12));
  if (magic.startsWith("GIF8")) return await gifComments(file);
  if (magic.startsWith("\x89PNG")) return await pngComments(file);
  if (magic.slice(4, 8) === "ftyp") return await mp4Comments(file);
  throw new TilereelError(`${path} is not an MP4, a GIF, a PNG or a folder of frames: name a clip that tilereel wrote`);
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

/** The record in a comment, or undefined if the comment is another program's. */
function parseRecord(text: string, path: string): ClipRecord | undefined {
  if (!new RegExp(`^\\s*\\{\\s*"${NAME}"\\s*:`).test(text)) return undefined;
  let record: unknown;
  try {
    record = (parseJson(text) as Record<string, unknown>)[NAME];
  } catch (error) {
    throw new TilereelError(`${path}: the record of how it was made is damaged: it is not JSON`, { cause: error });
  }
  if (isJsonObject(record)) return record;
  throw new TilereelError(`${path}: the record of how it was made is damaged: it is not a JSON object`);
}
