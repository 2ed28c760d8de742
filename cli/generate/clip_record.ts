import { quotedValue } from "../../gpu/common/errors.ts";
import { METHODS } from "../../tools/program/clip/method_options.ts";
import { optionName } from "../../tools/program/clip/clip_settings.ts";
import type { ClipRecord } from "../../model/video/record_text.ts";
import { batchOptions } from "../../tools/program/clip/batch_options.ts";

/** Keys that do not say what a clip was made with. */
const CIRCUMSTANCES = ["version", "adapter", "source", "density"];
/** The number of differences that are listed. */
const MOST_TOLD = 3;

/** The differences between two records, as `steps 20, now 30; negative "", now "blurry"`; undefined if none. */
export function differences(before: ClipRecord, now: ClipRecord): string | undefined {
  const keys = [...new Set([...Object.keys(now), ...Object.keys(before)])];
  const others = Object.entries(METHODS).filter(([kind]) => before[kind] !== now[kind]);
  const told = keys.flatMap((key) => {
    const digest = `${key}Digest`;
    // Files are compared by their digests, not by their names.
    if (CIRCUMSTANCES.includes(key) || key.endsWith("Digest")) return [];
    // Another kind of a method has other options.
    if (others.some(([kind, { options }]) => key !== kind && optionName(key) in options)) return [];
    const decides = before[digest] !== undefined && now[digest] !== undefined ? digest : key;
    if (JSON.stringify(before[decides]) === JSON.stringify(now[decides])) return [];
    const [was, is] = [shown(before[key]), shown(now[key])];
    return [`${optionName(key)} ${was === is ? `${was} with other contents` : `${was}, now ${is}`}`];
  });
  if (told.length === 0) return undefined;
  const more = told.length - MOST_TOLD;
  return [...told.slice(0, MOST_TOLD), ...more > 0 ? [`and ${more} more`] : []].join("; ");
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return "none";
  return quotedValue(value);
}

/** Keys that name a file or a folder, or a list of files. Their contents are not in the record, but their digests are. */
export const FILE_KEYS = [
  "router",
  "tiles",
  "transformer",
  "transformer2",
  "vae",
  "textEncoder",
  "textEncoder2",
  "imageEncoder",
  "tokenizer",
  "tokenizer2",
  "lora",
  "embeddings",
  "latents",
  "image",
  "lastImage",
] as const;

/** One of {@linkcode FILE_KEYS}. */
export type FileKey = typeof FILE_KEYS[number];

/** Keys of options that hold for all clips of a run. */
const RUN_KEYS = ["precision", "weightDtype"] as const;

/** The options that repeat a clip, without leading dashes, and their texts. Prompt, model and files are left out. */
export function optionsOf(record: ClipRecord): [name: string, text: string][] {
  const { width, height } = record;
  const options: [string, string][] = [];
  if (width !== undefined) options.push(["size", `${textOf(width)}x${textOf(height)}`]);
  for (const [key, value] of Object.entries(record)) {
    const name = optionName(key);
    if (value === null || (FILE_KEYS as readonly string[]).includes(key)) continue;
    if (Object.hasOwn(batchOptions, name)) options.push([name, textOf(value)]);
  }
  for (const key of RUN_KEYS) if (record[key] !== undefined) options.push([optionName(key), textOf(record[key])]);
  return options;
}

/** A value as it is written on the command line. One that no option has, from a record that was changed, is JSON. */
function textOf(value: unknown): string {
  const isPlain = typeof value !== "object" || Array.isArray(value) && value.every((item) => typeof item !== "object");
  return isPlain ? String(value) : JSON.stringify(value);
}
