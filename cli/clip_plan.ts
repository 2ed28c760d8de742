/**
 * Works out, before any model is loaded, which clips a command line asks for and where each goes.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { TilereelError } from "../errors.ts";
import { exists } from "../model/checkpoint/file_error.ts";
import type { ClipValues } from "./clip_options.ts";
import { overlay } from "./clip_settings.ts";
import { checkWritable, isFolder } from "./output.ts";
import { type PromptEntry, readPrompts } from "./prompts_file.ts";
import { slug } from "./slug.ts";
import { formatOf, type VideoFormat, withFormat } from "./video/write_video.ts";

/** One clip to make. */
export interface Clip {
  readonly prompt: string;
  readonly seed: number;
  /** What was asked for; the model's defaults fill the rest. */
  readonly values: ClipValues;
  /** Where it goes; the ending says the format. */
  readonly out: string;
  /** Whether it is there already, from an earlier run of the same batch. */
  readonly done: boolean;
}

/** What decides the plan. */
export interface PlanOptions {
  readonly prompt?: string;
  /** A file of prompts, instead of one prompt. */
  readonly prompts?: string;
  readonly out?: string;
  readonly format?: VideoFormat;
  /** What holds for every clip; lines of a prompts file may say otherwise. */
  readonly values: ClipValues;
}

/** Folder of clips when nothing else is named. */
const DEFAULT_FOLDER = "out";

/**
 * The clips to make, each with its own seed and place.
 *
 * @throws {TilereelError} for a prompts file that cannot be used, or a place that cannot be written
 */
export async function planClips(options: PlanOptions): Promise<Clip[]> {
  const clips = options.prompts === undefined ? [await planOne(options)] : await planBatch(options.prompts, options);
  for (const clip of clips) {
    if (!clip.done) await checkPlace(clip.out);
  }
  return clips;
}

async function planOne({ prompt, out, format, values }: PlanOptions): Promise<Clip> {
  if (prompt === undefined) throw new TilereelError('no prompt: write tilereel generate "a red circle moving right"');
  if (prompt.trim() === "") throw new TilereelError('the prompt is empty: say what to show, as in "a red circle"');
  const seed = values.seed ?? randomSeed();
  return { prompt, seed, values, out: await singlePlace(prompt, seed, out, format), done: false };
}

async function singlePlace(
  prompt: string,
  seed: number,
  out: string | undefined,
  format: VideoFormat | undefined,
): Promise<string> {
  if (out === undefined) return await freeName(join(DEFAULT_FOLDER, `${slug(prompt)}-${seed}`), format ?? "mp4");
  const asFolder = !/[\\/]$/.test(out) && (format === "frames" || await isFolder(out));
  const asked = asFolder ? `${out}/` : out;
  if (format !== undefined && format !== formatOf(asked)) {
    throw new TilereelError(`--out ${out} asks for ${formatOf(asked)}, but --format for ${format}: name one of them`);
  }
  return asked;
}

/**
 * The name with its ending or, where there is something of that name, the first of `NAME-2`, `NAME-3` … that is free.
 */
async function freeName(name: string, format: VideoFormat): Promise<string> {
  for (let count = 1;; count++) {
    const free = withFormat(count === 1 ? name : `${name}-${count}`, format);
    if (!await isMade(free)) return free;
  }
}

async function planBatch(path: string, { prompt, out, format = "mp4", values }: PlanOptions): Promise<Clip[]> {
  if (prompt !== undefined) {
    throw new TilereelError("give either a prompt or --prompts FILE, not both");
  }
  const folder = out ?? DEFAULT_FOLDER;
  if (/\.(mp4|gif|png)$/i.test(folder) && !await isFolder(folder)) {
    throw new TilereelError(
      `--out ${folder} names one file, but --prompts makes several: name a folder, and the format with --format`,
    );
  }
  const entries = await readPrompts(path);
  const places = entries.map((entry, i) => placeInBatch(entry, i, { folder, format, path }));
  for (const [i, place] of places.entries()) {
    const first = places.findIndex((other) => resolve(other) === resolve(place));
    if (first < i) {
      const lines = `${entries[first]!.line} and ${entries[i]!.line}`;
      throw new TilereelError(`${path} lines ${lines} would both be written to ${place}`);
    }
  }
  return await Promise.all(entries.map(async (entry, i) => {
    const merged = overlay(values, entry.values);
    return {
      prompt: entry.prompt,
      seed: merged.seed ?? randomSeed(),
      values: merged,
      out: places[i]!,
      done: await isMade(places[i]!),
    };
  }));
}

/** Named by its place among the prompts and its words, so that a second run finds what the first has made. */
function placeInBatch(
  entry: PromptEntry,
  index: number,
  { folder, format, path }: { folder: string; format: VideoFormat; path: string },
): string {
  if (entry.prompt.trim() === "") throw new TilereelError(`${path} line ${entry.line}: the prompt is empty`);
  if (entry.out === undefined) {
    return join(folder, withFormat(`${String(index + 1).padStart(4, "0")}-${slug(entry.prompt)}`, format));
  }
  const named = resolve(entry.out) === entry.out ? entry.out : join(folder, entry.out);
  formatOf(named);
  return named;
}

async function checkPlace(out: string): Promise<void> {
  if (formatOf(out) === "frames") {
    if (await isMade(out)) {
      throw new TilereelError(
        `--out ${out} exists and is not empty, but a folder is made anew of one clip's frames: name a new one, or a ` +
          `file such as ${join(out, "clip.mp4")}`,
      );
    }
  }
  await checkWritable(out, { asFile: formatOf(out) !== "frames" });
}

/**
 * Whether a file is there, or a folder with something in it. What cannot be told is found out when it is to be
 * written.
 */
async function isMade(out: string): Promise<boolean> {
  if (!await isFolder(out)) return formatOf(out) !== "frames" && await exists(out).catch(() => false);
  for await (const _ of Deno.readDir(out)) return true;
  return false;
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}
