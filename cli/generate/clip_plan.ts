import { isAbsolute, join, relative, resolve } from "node:path";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { sampleSeed } from "../../model/training/data/sampled_set.ts";
import { LARGEST_SEED } from "../../model/noise.ts";
import { batchOptions, type BatchValues, overlaid } from "../../tools/program/clip/batch_options.ts";
import { checkReplaceable } from "./replace.ts";
import { checkWritable, isFolder } from "../../model/files/output.ts";
import { checkPrompt, seedOf } from "../../tools/program/clip/clip_settings.ts";
import type { PromptEntry } from "../../tools/program/clip/prompts.ts";
import { promptsName, readPrompts } from "../../tools/program/prompts_file.ts";
import { slug } from "../../tools/program/clip/slug.ts";
import { formatOf, type VideoFormat, withFormat } from "../../model/video/write_video.ts";

/** One clip to make. */
export interface Clip {
  readonly prompt: string;
  readonly seed: number;
  /** The requested settings. The model's defaults complete them. */
  readonly values: BatchValues;
  /** The path to write. Its ending decides the format. */
  readonly out: string;
  /**
   * What happens if that file exists. "replace": it is replaced, because the user named it; "next": a number is
   * appended to the name, unless the file is the same clip; "keep": it is kept.
   */
  readonly taken: "replace" | "next" | "keep";
  /** The line of the prompts file, for messages. */
  readonly where?: string;
}

/** The inputs of the plan. */
export interface PlanOptions {
  readonly prompt?: string | undefined;
  /** A file of prompts, instead of one prompt. */
  readonly prompts?: string | undefined;
  readonly out?: string | undefined;
  readonly format?: VideoFormat | undefined;
  /** Whether the frames of a clip in the folder that --out names may be replaced. */
  readonly overwrite?: boolean | undefined;
  /** The values for all clips; lines of a prompts file may override them. */
  readonly values: BatchValues;
}

/** Folder of clips when nothing else is named. */
export const DEFAULT_FOLDER = "out";

/**
 * The clips that a command line asks for, each with its own seed and place, before any model is loaded.
 *
 * @throws {TilereelError} for a prompts file that cannot be used, or a place that cannot be written
 */
export async function planClips(options: PlanOptions): Promise<Clip[]> {
  const clips = await (options.prompts === undefined ? planPrompt(options) : planBatch(options.prompts, options));
  for (const clip of clips) {
    const isThere = await isMade(clip.out);
    if (isThere && clip.taken === "replace" && options.overwrite) await checkReplaceable(clip.out);
    else if (clip.taken === "replace" || !isThere) await checkPlace(clip.out);
  }
  return clips;
}

/** The clips of one prompt. */
async function planPrompt({ prompt, out, format, values }: PlanOptions): Promise<Clip[]> {
  const checked = checkPrompt(prompt), first = seedOf(values), { count = 1 } = values;
  if (count === 1 && out !== undefined) {
    return [{ prompt: checked, seed: first, values, out: await singlePlace(out, format), taken: "replace" }];
  }
  const folder = count === 1 ? DEFAULT_FOLDER : await batchFolder(out, "--count");
  return seedsFrom(first, values).map((seed): Clip => {
    const place = join(folder, withFormat(`${slug(checked)}-${seed}`, format ?? "mp4"));
    return { prompt: checked, seed, values, out: place, taken: count === 1 ? "next" : "keep" };
  });
}

async function singlePlace(out: string, format: VideoFormat | undefined): Promise<string> {
  const asFolder = !/[\\/]$/.test(out) && (format === "frames" || await isFolder(out));
  const asked = asFolder ? `${out}/` : out;
  if (format !== undefined && format !== formatOf(asked)) {
    throw new TilereelError(
      `--out ${out} asks for ${formatOf(asked)}, but --format asks for ${format}: give only one of them`,
    );
  }
  return asked;
}

async function planBatch(path: string, { prompt, out, format = "mp4", values }: PlanOptions): Promise<Clip[]> {
  if (prompt !== undefined) throw new TilereelError("give either a prompt or --prompts FILE, not both");
  const folder = await batchFolder(out, "--prompts");
  const name = promptsName(path);
  const times = new Map<string, number>();
  const clips = (await readPrompts(path, batchOptions)).flatMap((entry, index): Clip[] => {
    const where = `${name} line ${entry.line}`;
    const merged = overlaid(values, entry.values), occurrence = times.get(entry.prompt) ?? 0;
    times.set(entry.prompt, occurrence + 1);
    // Without a given seed it is derived from the prompt, so that the same command finds its earlier clips.
    const first = merged.seed === undefined ? sampleSeed(0, entry.prompt, occurrence) : seedOf(merged);
    const all = seedsFrom(first, merged);
    return all.map((seed): Clip => ({
      prompt: entry.prompt,
      seed,
      values: merged,
      out: placeInBatch(entry, index, { folder, format, seed, alone: all.length === 1, where }),
      taken: "keep",
      where,
    }));
  });
  const places = new Map<string, Clip>();
  for (const clip of clips) {
    const place = resolve(clip.out), first = places.get(place);
    if (first) {
      throw new TilereelError(
        `${first.where} and ${clip.where} would both be written to ${clip.out}: give one of them another "out"`,
      );
    }
    places.set(place, clip);
  }
  return clips;
}

/** The folder of several clips. */
async function batchFolder(out: string | undefined, why: string): Promise<string> {
  const folder = out ?? DEFAULT_FOLDER;
  if (/\.(mp4|gif|png)$/i.test(folder) && !await isFolder(folder)) {
    throw new TilereelError(
      `--out ${folder} names one file, but ${why} makes several: name a folder, and the format with --format`,
    );
  }
  return folder;
}

/** The name has the number of the prompt, its words and the seed, so that a second run finds the clips of the first. */
function placeInBatch(
  { prompt, out }: PromptEntry<typeof batchOptions>,
  index: number,
  { folder, format, seed, alone, where }: {
    folder: string;
    format: VideoFormat;
    seed: number;
    alone: boolean;
    where: string;
  },
): string {
  if (out === undefined) {
    return join(folder, withFormat(`${String(index + 1).padStart(4, "0")}-${slug(prompt)}-${seed}`, format));
  }
  const named = resolve(out) === out ? out : join(folder, out), inside = relative(resolve(folder), resolve(named));
  // A prompts file may come from others.
  if (inside === "" || isAbsolute(inside) || /^\.\.($|[\\/])/.test(inside)) {
    throw new TilereelError(
      `${where}: "out" is ${quoted(out)}, which does not lie in ${folder}; name a place in that folder, or another ` +
        `folder with --out`,
    );
  }
  const [, stem, ending] = /^(.*?)(\.[^.\\/]*|[\\/])?$/s.exec(named)!;
  formatOf(named);
  return alone ? named : `${stem}-${seed}${ending}`;
}

/**
 * Checks that a clip can be written to its place.
 *
 * @throws {TilereelError} if not
 */
export async function checkPlace(out: string): Promise<void> {
  if (formatOf(out) === "frames" && await isMade(out)) {
    throw new TilereelError(
      `--out ${out} exists and is not empty, but frames need a new or an empty folder: name such a folder, name a ` +
        `file such as ${join(out, "clip.mp4")}, or replace the frames with --overwrite`,
    );
  }
  await checkWritable(out, { asFile: formatOf(out) !== "frames" });
}

/**
 * Whether there is a file or a folder that is not empty. If that cannot be determined, writing will show it.
 */
export async function isMade(out: string): Promise<boolean> {
  if (!await isFolder(out)) {
    // A file without a byte is what is left where a machine lost its power.
    return formatOf(out) !== "frames" &&
      await Deno.stat(out).then(({ size, isFile }) => size > 0 || !isFile, () => false);
  }
  for await (const _ of Deno.readDir(out)) return true;
  return false;
}

/** As many seeds as there are clips, each higher by 1 than the one before. */
function seedsFrom(first: number, { count = 1 }: { readonly count?: number }): number[] {
  return Array.from({ length: count }, (_, i) => (first + i) % (LARGEST_SEED + 1));
}
