/**
 * Writes a clip in the format its name asks for.
 *
 * @module
 */
import { join } from "node:path";
import {
  aboveZero,
  aFunction,
  anAbortSignal,
  aNumber,
  aPath,
  check,
  checkOptions,
  type Kind,
  type Kinds,
  objectWith,
  wholeNumber,
} from "../../gpu/common/check_options.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { OnProgress } from "../progress.ts";
import type { Video } from "./video.ts";
import { writeAtomically } from "../files/output.ts";
import { withGifComment } from "./comment/gif.ts";
import { withPngComment } from "./comment/png.ts";
import { writeFrames } from "./frames.ts";
import { encodeGif } from "./gif.ts";
import { encodeMp4 } from "./mp4.ts";
import { encodeContactSheet } from "./png.ts";
import { type ClipRecord, RECORD_FILE, recordText, toAscii } from "./record.ts";

/** What a clip can be written as: `png` is a contact sheet, `frames` a folder of numbered pictures. */
export const VIDEO_FORMATS = ["mp4", "gif", "png", "frames"] as const;
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
  if (extension === "mp4" || extension === "gif" || extension === "png") return extension;
  throw new TilereelError(
    `${path} does not say what to write: end it in .mp4, .gif, .png (a contact sheet) or / (a folder of frames)`,
  );
}

/** `path` with the ending of `format` after it. */
export function withFormat(path: string, format: VideoFormat): string {
  return format === "frames" ? `${path}/` : `${path}.${format}`;
}

/** How a clip is written. */
export interface WriteOptions {
  readonly onProgress?: OnProgress;
  /** What made the clip, for the file to carry: see {@link readRecord}. */
  readonly record?: ClipRecord;
  /** How good an MP4 is, from 1 to 100; 80 where none is given. Other formats have one quality. */
  readonly quality?: number;
  /**
   * Ends the work, and nothing is written: before the next frame of an MP4 or of a folder, else before or after the
   * clip is encoded.
   */
  readonly signal?: AbortSignal;
}

const A_VIDEO: Kind = {
  expected: "a clip with width, height, frames, fps and data (RGB, 8 bits a channel, all frames)",
  fits: (video) =>
    [video?.width, video?.height, video?.frames].every(wholeNumber(1).fits) && aboveZero.fits(video.fps) &&
    video.data instanceof Uint8Array && video.data.length === video.width * video.height * video.frames * 3,
};

const WRITE_KINDS: Kinds<WriteOptions> = {
  onProgress: aFunction,
  record: objectWith("a record of what made the clip", {}),
  quality: aNumber(1, 100),
  signal: anAbortSignal,
};

/**
 * Writes the clip to `path`, complete or not at all, as its end says: `.mp4`, `.gif`, `.png` (a contact sheet) or `/`
 * (a folder of frames).
 *
 * @returns the size in bytes of what was written
 * @throws {TilereelError} when the end says nothing, the place cannot be written or the disk is full
 * @throws the signal's reason, if it is aborted before the file is complete, or before the call
 */
export async function writeVideo(path: string, video: Video, options: WriteOptions = {}): Promise<number> {
  check("writeVideo: path", path, aPath);
  check("writeVideo: the video", video, A_VIDEO);
  checkOptions("writeVideo", options, WRITE_KINDS);
  const { record, signal } = options;
  const format = formatOf(path);
  const comment = record && recordText(record);
  let size = 0;
  signal?.throwIfAborted();
  await writeAtomically(path, async (temporary) => {
    if (format === "frames") {
      await writeFrames(temporary, video, signal);
      if (comment !== undefined) await Deno.writeTextFile(join(temporary, RECORD_FILE), comment);
      for await (const entry of Deno.readDir(temporary)) size += (await Deno.stat(`${temporary}/${entry.name}`)).size;
      return;
    }
    const bytes = await encode(format, video, comment, options);
    signal?.throwIfAborted();
    size = bytes.length;
    await Deno.writeFile(temporary, bytes);
  });
  return size;
}

async function encode(
  format: Exclude<VideoFormat, "frames">,
  video: Video,
  comment: string | undefined,
  { onProgress, quality, signal }: WriteOptions,
): Promise<Uint8Array> {
  switch (format) {
    case "mp4":
      return await encodeMp4(video, {
        comment,
        quality,
        signal,
        onFrame: (done) => onProgress?.({ stage: "encode MP4", done, total: video.frames }),
      });
    case "gif":
      return comment === undefined ? encodeGif(video) : withGifComment(encodeGif(video), toAscii(comment));
    case "png":
      return comment === undefined ? encodeContactSheet(video) : withPngComment(encodeContactSheet(video), comment);
  }
}
