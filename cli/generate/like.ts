import { dirname, join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { exists } from "../../model/files/file_error.ts";
import { isFolder } from "../../model/files/output.ts";
import { ownFile } from "../../model/own_files.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { fileDigest, modelDigest } from "../../model/identity/digest.ts";
import { batchOptions, type BatchValues, overlaid } from "../../tools/program/clip/batch_options.ts";
import { attentionOptions } from "../../tools/program/clip/attention_options.ts";
import { modelOptions } from "../../tools/program/model_options.ts";
import { readRecord } from "../../model/video/record.ts";
import type { ClipRecord } from "../../model/video/record_text.ts";
import { optionName } from "../../tools/program/clip/clip_settings.ts";
import { EMBEDDED } from "../../tools/program/clip/record.ts";
import { FILE_KEYS, type FileKey, optionsOf } from "./clip_record.ts";

/** Everything that a clip was made with. */
export interface Like {
  readonly file: string;
  readonly record: ClipRecord;
  readonly prompt: string;
  /** The values of the record. */
  readonly own: BatchValues;
  /** Those of the command line. */
  readonly given: BatchValues;
  /** The clip's values, overridden by those of the command line. */
  readonly values: BatchValues;
  /** A folder, or undefined for the embedded model. */
  readonly model: string | undefined;
  /** Values of the options that hold for all clips of a run, and files; a list where an option takes several. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** The options of the command line. They take precedence over the record. */
export interface LikeOptions {
  readonly model: string | undefined;
  readonly given: BatchValues;
  /** Options of files that are not needed, because something else replaces them. */
  readonly without: readonly string[];
}

/**
 * Reads the settings of a clip, for `--like FILE`, from the record in its file.
 *
 * @throws {TilereelError} if the file has no record, or a file that the clip was made with cannot be found
 */
export async function readLike(file: string, { model, given, without }: LikeOptions): Promise<Like> {
  const record = await readRecord(file);
  if (!record) {
    throw new TilereelError(
      `--like ${file} has no record of how it was made: name a clip that tilereel wrote and that no other program ` +
        `changed`,
    );
  }
  if (typeof record.prompt !== "string") {
    throw new TilereelError(`--like ${file}: its record has no prompt; name another clip`);
  }
  let values: BatchValues = {};
  const options: Record<string, unknown> = {}, known = { ...modelOptions, ...batchOptions };
  for (const [name, text] of optionsOf(record)) {
    const value = known[name as keyof typeof known].parse(text, `--like ${file}: its ${name}`);
    if (name in batchOptions) values = { ...values, [name]: value };
    else options[name] = value;
  }
  const folder = model ?? await modelFolder(record, file);
  // Another kind of attention on the command line needs none of the files of this one.
  const attention = overlaid({ ...values, router: "?", tiles: "?" }, given);
  const files: Record<string, string | readonly string[]> = {};
  for (const key of FILE_KEYS) {
    const option = optionName(key), isReplaced = option in attention && attention[option as "router"] !== "?";
    if (record[key] === undefined || without.includes(option) || isReplaced) continue;
    if (key in attentionOptions && !(option in attention)) continue;
    const names = [record[key]].flat(), digests = [record[`${key}Digest`]].flat();
    const find = (name: unknown, i: number) => findFile(key, name, digests[i], file, folder ?? embeddedModelDir());
    const found = await Promise.all(names.map(find));
    files[option] = Array.isArray(record[key]) ? found : found[0]!;
  }
  const { lora = [], ...single } = files, strengths = [record.loraStrength].flat();
  // Some are those of a clip, and others hold for all clips of a run.
  const entries = Object.entries(single), ofClip = entries.filter(([option]) => Object.hasOwn(batchOptions, option));
  const others = Object.fromEntries(entries.filter(([option]) => !Object.hasOwn(batchOptions, option)));
  const loras = [lora].flat().map((file, i) => ({ file, strength: Number(strengths[i] ?? 1) }));
  const all: BatchValues = { ...values, ...Object.fromEntries(ofClip) };
  return {
    ...{ file, record, own: values, given, prompt: record.prompt, model: folder },
    values: overlaid(all, given),
    options: { ...options, ...others, ...loras.length > 0 && { lora: loras } },
  };
}

/** The differences that may change the clip, as clauses. */
export function likeNotes({ file, record }: Like, now: ClipRecord): string[] {
  const known = (key: string) => record[key] !== undefined && now[key] !== undefined;
  const others = [
    ...known("version") && record.version !== now.version
      ? [`by tilereel ${cut(record.version)}, and this is ${now.version}`]
      : [],
    ...known("modelDigest") && record.modelDigest !== now.modelDigest
      ? [`with the model ${cut(record.model)}, and this is another`]
      : [],
    ...known("adapter") && (record.adapter !== now.adapter || record.source !== now.source)
      ? [`on ${cut(record.adapter)} (${cut(record.source)}), and this is ${now.adapter} (${now.source})`]
      : [],
  ];
  return others.map((other) => `${file} was made ${other}: the clip may differ`);
}

async function modelFolder({ model }: ClipRecord, file: string): Promise<string | undefined> {
  if (model === undefined || model === EMBEDDED) return undefined;
  if (typeof model === "string" && await exists(model).catch(() => false)) return model;
  throw new TilereelError(
    `--like ${file}: it was made with the model ${cut(model)}, which is not in this folder: name it with --model DIR`,
  );
}

/** The file of that name in the working folder or beside the clip, or the model's own, by its digest. */
async function findFile(
  key: FileKey,
  name: unknown,
  digest: unknown,
  file: string,
  model: string,
): Promise<string> {
  const own = key === "router" || key === "tiles" || key === "lora" ? await ownFile(model, key) : undefined;
  const places = typeof name === "string" ? [name, join(dirname(file), name), ...own ? [own.path] : []] : [];
  for (const place of places) {
    if (await exists(place).catch(() => false) && await digestOf(place) === digest) return place;
  }
  throw new TilereelError(
    `--like ${file}: it was made with the ${optionName(key)} file ${cut(name)}, which is not in this folder or has ` +
      `changed: name the file with --${optionName(key)} FILE`,
  );
}

/** As in the record: of a file, or of a part's folder. */
async function digestOf(place: string): Promise<string> {
  return await isFolder(place) ? await modelDigest([place]) : await fileDigest(place);
}

function cut(value: unknown): string {
  return (JSON.stringify(value) ?? "none").slice(0, 60);
}
