import { basename, dirname, isAbsolute, join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { parseJsonObject } from "../../checkpoint/json.ts";
import { fileAt } from "../../files/disk.ts";
import { fileError, isNotFound, shortPath } from "../../files/file_error.ts";
import { frameNames } from "../../video/read/frame_folder.ts";

/** A clip and what it shows. */
export interface ClipOnDisk {
  /** A file or a folder of frames. */
  readonly path: string;
  readonly caption: string;
}

/** Lists the clips of a folder with their captions, where these are not in files of their own. */
const METADATA = "metadata.jsonl";
const FILE_KEYS = ["file", "file_name"], CAPTION_KEYS = ["caption", "text", "prompt"];
const VIDEO = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|wmv|flv|ogv|gif)$/i;

/**
 * The clips of a folder. Either `metadata.jsonl` lists them, a line such as `{"file": "cat.mp4", "caption": "a cat"}`
 * each (`file_name` and `text`, as in Hugging Face's video folders, mean the same); or they are all videos and all
 * folders of PNG or JPEG frames in it, with a caption beside each: `cat.txt` for `cat.mp4` or `cat/`. Other files do
 * not count.
 *
 * @throws {TilereelError} when there is no clip, or a caption is missing, which names the clip
 */
export async function findClips(folder: string): Promise<ClipOnDisk[]> {
  const names = await namesIn(folder);
  const clips = names.includes(METADATA) ? await fromMetadata(folder) : await withCaptionsBeside(folder, names);
  if (clips.length > 0) return clips;
  throw new TilereelError(
    `${folder} holds no clips: put videos or folders of PNG or JPEG frames in it, each with its caption beside ` +
      `it, as in cat.mp4 and cat.txt`,
  );
}

async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) if (!name.startsWith(".")) names.push(name);
  } catch (error) {
    const reason = isNotFound(error)
      ? "there is no such folder"
      : error instanceof Deno.errors.NotADirectory
      ? "it is a file; a folder of clips was expected"
      : (error as Error).message;
    throw new TilereelError(`${folder} cannot be read: ${reason}`, { cause: error });
  }
  return names.sort();
}

/** All videos of a folder, and all folders of frames in it. */
async function withCaptionsBeside(folder: string, names: readonly string[]): Promise<ClipOnDisk[]> {
  const clips: ClipOnDisk[] = [];
  for (const name of names) {
    const path = join(folder, name), isFolder = await fileAt(path).kind() === "folder";
    if (isFolder ? (await frameNames(path)).length === 0 : !VIDEO.test(name)) continue;
    clips.push(await withCaption(path, join(folder, `${isFolder ? name : name.replace(/\.[^.]*$/, "")}.txt`)));
  }
  return clips;
}

async function withCaption(path: string, captionPath: string): Promise<ClipOnDisk> {
  const text = await readText(captionPath).catch((error) => {
    if (!isNotFound(error)) throw error;
    throw new TilereelError(
      `${path} has no caption: write what it shows into ${captionPath}, or list all clips in ` +
        join(dirname(path), METADATA),
    );
  });
  const caption = text.trim();
  if (caption === "") throw new TilereelError(`${captionPath} is empty: write into it what ${basename(path)} shows`);
  return { path, caption };
}

async function fromMetadata(folder: string): Promise<ClipOnDisk[]> {
  const path = join(folder, METADATA);
  const clips: ClipOnDisk[] = [];
  for (const [index, line] of (await readText(path)).split(/\r?\n/).entries()) {
    if (line.trim() === "") continue;
    const where = `${path} line ${index + 1}`, entry = parseJsonObject(line);
    if (!entry) {
      throw new TilereelError(
        `${where} is not a JSON object such as {"file": "cat.mp4", "caption": "a cat on a beach"}`,
      );
    }
    const file = textAt(entry, FILE_KEYS, where), caption = textAt(entry, CAPTION_KEYS, where);
    const clip = isAbsolute(file) ? file : join(folder, file);
    await Deno.stat(clip).catch((error) => {
      if (isNotFound(error)) throw new TilereelError(`${where}: there is no clip ${shortPath(clip)}`);
      throw fileError(clip, "read", error);
    });
    clips.push({ path: clip, caption });
  }
  return clips;
}

function textAt(entry: Readonly<Record<string, unknown>>, keys: readonly string[], where: string): string {
  const value = entry[keys.find((key) => key in entry) ?? ""];
  if (typeof value === "string" && value.trim() !== "") return value.trim();
  throw new TilereelError(
    `${where} has no "${keys[0]}": write {"file": "cat.mp4", "caption": "a cat on a beach"}, one line per clip`,
  );
}

async function readText(path: string): Promise<string> {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await Deno.readFile(path));
  } catch (error) {
    if (error instanceof TypeError) throw new TilereelError(`${path} is not UTF-8 text: save it as UTF-8`);
    throw fileError(path, "read", error);
  }
}
