import { join } from "node:path";
import { aPath, check, checkOptions } from "../../gpu/common/check_options.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { OnProgress } from "../progress.ts";
import type { Video } from "./video.ts";
import { writeAtomically } from "../files/output.ts";
import { A_VIDEO, encodeVideo, FILE_FORMATS, WRITE_KINDS, type WriteOptions } from "./encode_video.ts";
import { frameOf } from "./frames.ts";
import { encodePng } from "./png.ts";
import { RECORD_FILE } from "./record.ts";
import { recordText } from "./record_text.ts";

/** The formats of a written clip: `png` is a contact sheet, `frames` a folder of numbered pictures. */
export const VIDEO_FORMATS = [...FILE_FORMATS, "frames"] as const;
/** One of {@link VIDEO_FORMATS}. */
export type VideoFormat = typeof VIDEO_FORMATS[number];

/**
 * The format a path asks for: by its extension, or a folder of frames when it ends in a slash.
 *
 * @throws {TilereelError} when it is none of these
 */
export function formatOf(path: string): VideoFormat {
  if (/[\\/]$/.test(path)) return "frames";
  const extension = /[^\\/]\.([^.\\/]+)$/.exec(path)?.[1]?.toLowerCase();
  const format = FILE_FORMATS.find((format) => format === extension);
  if (format) return format;
  throw new TilereelError(
    `${path} does not say what to write: end it in .mp4, .gif, .png (a contact sheet) or / (a folder of frames)`,
  );
}

/** `path` with the ending of `format` after it. */
export function withFormat(path: string, format: VideoFormat): string {
  return format === "frames" ? `${path}/` : `${path}.${format}`;
}

/**
 * Writes the clip, complete or not at all, as the end of `path` says: .mp4, .gif, .png (a contact sheet) or / (frames).
 *
 * @returns the size in bytes of what was written
 * @throws {TilereelError} when the end says nothing, the place cannot be written or the disk is full
 * @throws the signal's reason, if it is aborted before the file is complete, or before the call
 */
export async function writeVideo(path: string, video: Video, options: WriteOptions = {}): Promise<number> {
  check("writeVideo: path", path, aPath);
  check("writeVideo: the video", video, A_VIDEO);
  checkOptions("writeVideo", options, WRITE_KINDS);
  const { record, onProgress, signal } = options;
  const format = formatOf(path);
  const comment = record && recordText(record);
  let size = 0;
  signal?.throwIfAborted();
  await writeAtomically(path, async (temporary) => {
    if (format === "frames") {
      await writeFrames(temporary, video, onProgress, signal);
      if (comment !== undefined) await Deno.writeTextFile(join(temporary, RECORD_FILE), comment);
      for await (const entry of Deno.readDir(temporary)) size += (await Deno.stat(`${temporary}/${entry.name}`)).size;
      return;
    }
    const bytes = await encodeVideo(video, format, options);
    size = bytes.length;
    await Deno.writeFile(temporary, bytes);
  });
  return size;
}

/** Writes every frame into the new folder `folder`: `0001.png`, `0002.png`, and so on. */
async function writeFrames(
  folder: string,
  video: Video,
  onProgress: OnProgress | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const onFrame = (done: number) => onProgress?.({ stage: "write file", done, total: video.frames });
  await Deno.mkdir(folder);
  onFrame(0);
  const digits = Math.max(4, String(video.frames).length);
  for (let i = 0; i < video.frames; i++) {
    const picture = encodePng(frameOf(video, i), video.width, video.height);
    await Deno.writeFile(join(folder, `${String(i + 1).padStart(digits, "0")}.png`), picture);
    onFrame(i + 1);
    signal?.throwIfAborted();
  }
}
