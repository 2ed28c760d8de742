import { join } from "node:path";
import { printable, TilereelError } from "../../gpu/common/errors.ts";
import { exists } from "../../model/files/file_error.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { fileDigest } from "../../model/identity/digest.ts";
import { ownFile } from "../../model/own_files.ts";
import { EMBEDDED } from "../../tools/program/clip/record.ts";
import { FILE_KEYS, type FileKey, optionsOf } from "../generate/clip_record.ts";
import { optionName } from "../../tools/program/clip/clip_settings.ts";
import { shellQuoted } from "../../tools/program/command_line.ts";
import { isFolder } from "../../model/files/output.ts";
import { textTable } from "../../tools/program/text_table.ts";
import { formatOf } from "../../model/video/write_video.ts";
import { readRecord, RECORD_FILE } from "../../model/video/record.ts";
import type { ClipRecord } from "../../model/video/record_text.ts";

/** Whether a path names a clip rather than a model, judged by its name. */
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
    `${path} has no record of how it was made: name a clip that tilereel wrote and that no other program changed`,
  );
}

/** The record as a table, and command lines that repeat the clip in its format, as `tilereel info CLIP` shows. */
export async function clipText(path: string, record: ClipRecord): Promise<string> {
  const { width, height, ...rest } = record;
  const kind = await isFolder(path) ? "frames" : formatOf(path), format = kind === "mp4" ? "" : ` --format ${kind}`;
  const rows = Object.entries({ ...width !== undefined && { size: `${width}x${height}` }, ...rest })
    .map(([key, value]) => [plain(wordsOf(key)), plain(value)]);
  return [
    `Clip: ${printable(path)}`,
    textTable(rows),
    "",
    `Repeat it: tilereel generate --like ${printable(shellQuoted(path))}${format}`,
    `or: ${repeatLine(record, await ownFiles(record))}${format}`,
  ].join("\n");
}

/**
 * The command line that makes the clip, with files by their names.
 *
 * @param own files of the model's own, which are found without being named
 */
export function repeatLine(record: ClipRecord, own: readonly FileKey[] = []): string {
  const { prompt, model } = record;
  const strengths = [record.loraStrength].flat();
  const files = FILE_KEYS.filter((key) => !own.includes(key)).flatMap((key) =>
    [record[key]].flat().flatMap((name, i): [string, string][] => {
      if (typeof name !== "string") return [];
      const strength = key === "lora" ? strengths[i] : undefined;
      return [[optionName(key), strength === undefined ? name : `${name}:${strength}`]];
    })
  );
  const options = [
    ...typeof model === "string" && model !== EMBEDDED ? [["model", model] as const] : [],
    ...optionsOf(record),
    ...files,
  ];
  const text = String(prompt), words = text.startsWith("-") ? option("prompt", text) : shellQuoted(text);
  return ["tilereel generate", words, ...options.map(([name, text]) => option(name, text))].join(" ");
}

/** Router and tiles that come with the model, as far as that can be found here. */
async function ownFiles(record: ClipRecord): Promise<FileKey[]> {
  const model = record.model === EMBEDDED ? embeddedModelDir() : String(record.model);
  const isOwn = async (what: "router" | "tiles") => {
    const file = await ownFile(model, what).catch(() => undefined);
    return file?.name === record[what] && file && await fileDigest(file).catch(() => "") === record[`${what}Digest`];
  };
  return [...await isOwn("router") ? ["router"] as const : [], ...await isOwn("tiles") ? ["tiles"] as const : []];
}

function option(name: string, text: string): string {
  return text.startsWith("-") ? `--${name}=${shellQuoted(text)}` : `--${name} ${shellQuoted(text)}`;
}

/** `flowShift` as "flow shift". */
function wordsOf(key: string): string {
  return optionName(key).replaceAll("-", " ");
}

/** Text without control characters, which could change what a terminal shows. */
function plain(value: unknown): string {
  if (value === null) return "none";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /\p{Cc}/u.test(text) ? JSON.stringify(text).replace(/\p{Cc}/gu, "?") : text;
}
