/**
 * How a clip was made, as `tilereel info CLIP` shows it.
 *
 * @module
 */
import { basename, join } from "node:path";
import { printable, TilereelError } from "../../gpu/common/errors.ts";
import { exists } from "../../model/files/file_error.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { fileDigest } from "../../model/identity/digest.ts";
import { ownRouter } from "../../tools/program/clip/attention_options.ts";
import { FILE_KEYS, type FileKey, optionName, optionsOf } from "../generate/clip_record.ts";
import { EMBEDDED } from "../generate/model_identity.ts";
import { shellQuoted } from "../../tools/program/long_run.ts";
import { isFolder } from "../../model/files/output.ts";
import { textTable } from "../../tools/program/text_table.ts";
import { ownTiles } from "../../tools/program/clip/veda_options.ts";
import { type ClipRecord, readRecord, RECORD_FILE } from "../../model/video/record.ts";

/** Whether a path is a clip, as far as its name says, rather than a model. */
export async function isClip(path: string): Promise<boolean> {
  if (await isFolder(path)) return await exists(join(path, RECORD_FILE)).catch(() => false);
  return /\.(mp4|gif|png)$/i.test(path);
}

/**
 * The record of a clip.
 *
 * @throws {TilereelError} if it carries none
 */
export async function clipRecordOf(path: string): Promise<ClipRecord> {
  const record = await readRecord(path);
  if (record) return record;
  throw new TilereelError(
    `${path} carries no record of how it was made: name a clip that tilereel wrote and no other program changed`,
  );
}

/** The record as a table, and the command lines that repeat the clip. */
export async function clipText(path: string, record: ClipRecord): Promise<string> {
  const { width, height, ...rest } = record;
  const rows = Object.entries({ ...width !== undefined && { size: `${width}x${height}` }, ...rest })
    .map(([key, value]) => [plain(wordsOf(key)), plain(value)]);
  return [
    `Clip: ${printable(path)}`,
    textTable(rows),
    "",
    `Repeat it: tilereel generate --like ${printable(shellQuoted(path))}`,
    `or: ${repeatLine(record, await ownFiles(record))}`,
  ].join("\n");
}

/**
 * The command line that makes the clip, with files by their names.
 *
 * @param own files of the model's own, which are found without being named
 */
export function repeatLine(record: ClipRecord, own: readonly FileKey[] = []): string {
  const { prompt, model } = record;
  const files = FILE_KEYS.filter((key) => !own.includes(key)).flatMap((key): [string, string][] =>
    typeof record[key] === "string" ? [[optionName(key), record[key]]] : []
  );
  const options = [
    ...typeof model === "string" && model !== EMBEDDED ? [["model", model] as const] : [],
    ...optionsOf(record),
    ...files,
  ];
  const text = String(prompt), words = text.startsWith("-") ? option("prompt", text) : shellQuoted(text);
  return ["tilereel generate", words, ...options.map(([name, text]) => option(name, text))].join(" ");
}

/** Router and tiles that lie in the model's folder, as far as that can be found here. */
async function ownFiles({ model, router, routerDigest, tiles, tilesDigest }: ClipRecord): Promise<FileKey[]> {
  const dir = model === EMBEDDED ? embeddedModelDir() : String(model);
  const isOwn = async (name: unknown, place: string, digest: unknown) =>
    name === basename(place) && await fileDigest(place).catch(() => undefined) === digest;
  return [
    ...await isOwn(router, ownRouter(dir), routerDigest) ? ["router"] as const : [],
    ...await isOwn(tiles, ownTiles(dir), tilesDigest) ? ["tiles"] as const : [],
  ];
}

function option(name: string, text: string): string {
  return text.startsWith("-") ? `--${name}=${shellQuoted(text)}` : `--${name} ${shellQuoted(text)}`;
}

/** `flowShift` as "flow shift". */
function wordsOf(key: string): string {
  return optionName(key).replaceAll("-", " ");
}

/** Text without what could change what a terminal shows. */
function plain(value: unknown): string {
  if (value === null) return "none";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /\p{Cc}/u.test(text) ? JSON.stringify(text).replace(/\p{Cc}/gu, "?") : text;
}
