import { TilereelError } from "../../gpu/common/errors.ts";
import { isJsonObject } from "../checkpoint/json.ts";
import { parseJson } from "../checkpoint/parse_json.ts";
import { readPart, type StoredFile } from "../files/store.ts";
import { gifComments } from "./comment/gif.ts";
import { mp4Comments } from "./comment/mp4.ts";
import { pngComments } from "./comment/png.ts";
import { type ClipRecord, NAME } from "./record_text.ts";

/** What is expected where a record is read. */
const WANTED = "a clip that tilereel wrote";

/**
 * The record in a clip's file: an MP4, a GIF or a PNG (a contact sheet). A page can use it, too.
 *
 * @returns undefined where the file carries none
 * @throws {TilereelError} as {@link readRecord} does
 */
export async function readFileRecord(stored: StoredFile): Promise<ClipRecord | undefined> {
  return firstRecord(await comments(stored), stored.path);
}

async function comments(stored: StoredFile): Promise<string[]> {
  using file = await stored.open(WANTED);
  const magic = String.fromCharCode(...await readPart(file, 0, 12));
  if (magic.startsWith("GIF8")) return await gifComments(file);
  if (magic.startsWith("\x89PNG")) return await pngComments(file);
  if (magic.slice(4, 8) === "ftyp") return await mp4Comments(file);
  throw new TilereelError(
    `${stored.path} is not an MP4, a GIF, a PNG or a folder of frames: name a clip that tilereel wrote`,
  );
}

/** The first of some comments that is a record. */
export function firstRecord(texts: readonly string[], path: string): ClipRecord | undefined {
  for (const text of texts) {
    const record = parseRecord(text, path);
    if (record) return record;
  }
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
