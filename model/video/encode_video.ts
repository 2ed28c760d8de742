import {
  aboveZero,
  aFunction,
  anAbortSignal,
  aNumber,
  check,
  checkOptions,
  type Kind,
  type Kinds,
  objectWith,
  oneOf,
  wholeNumber,
} from "../../gpu/common/check_options.ts";
import type { OnProgress } from "../progress.ts";
import { withGifComment } from "./comment/gif.ts";
import { withPngComment } from "./comment/png.ts";
import { encodeGif } from "./gif.ts";
import { encodeMp4 } from "./mp4.ts";
import { encodeContactSheet } from "./png.ts";
import { type ClipRecord, recordText, toAscii } from "./record_text.ts";
import type { Video } from "./video.ts";

/** The formats of an encoded clip: `png` is a contact sheet. */
export const FILE_FORMATS = ["mp4", "gif", "png"] as const;
/** One of {@link FILE_FORMATS}. */
export type FileFormat = typeof FILE_FORMATS[number];

/** How a clip is encoded and written. */
export interface WriteOptions {
  /** Told "write file", in frames. */
  readonly onProgress?: OnProgress;
  /** How the clip was made, to store in the file: see {@link readRecord}. */
  readonly record?: ClipRecord;
  /** How good an MP4 is, from 1 to 100; 80 where none is given. Other formats have one quality. */
  readonly quality?: number;
  /** Ends the work, with nothing written: before the next frame of an MP4 or folder, else before or after encoding. */
  readonly signal?: AbortSignal;
}

/** A clip whose data fits its size. */
export const A_VIDEO: Kind = {
  expected: "a clip with width, height, frames, fps and data (RGB, 8 bits a channel, all frames)",
  fits: (video) =>
    [video?.width, video?.height, video?.frames].every(wholeNumber(1).fits) && aboveZero.fits(video.fps) &&
    video.data instanceof Uint8Array && video.data.length === video.width * video.height * video.frames * 3,
};

/** Of {@link WriteOptions}. */
export const WRITE_KINDS: Kinds<WriteOptions> = {
  onProgress: aFunction,
  record: objectWith("a record of what made the clip", {}),
  quality: aNumber(1, 100),
  signal: anAbortSignal,
};

/**
 * Encodes a clip as the bytes of a file. It needs no disk, so a page can use it, too.
 *
 * @returns the file's bytes
 * @throws {TilereelError} if the record cannot be written
 * @throws the signal's reason, if it is aborted before the clip is encoded, or before the call
 */
export async function encodeVideo(
  video: Video,
  format: FileFormat,
  options: WriteOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  check("encodeVideo: the video", video, A_VIDEO);
  check("encodeVideo: format", format, oneOf(FILE_FORMATS));
  checkOptions("encodeVideo", options, WRITE_KINDS);
  const { record, onProgress, quality, signal } = options, comment = record && recordText(record);
  signal?.throwIfAborted();
  const onFrame = (done: number) => onProgress?.({ stage: "write file", done, total: video.frames });
  onFrame(0);
  const bytes = await encode();
  // An MP4 has told it.
  if (format !== "mp4") onFrame(video.frames);
  signal?.throwIfAborted();
  return bytes;

  async function encode(): Promise<Uint8Array<ArrayBuffer>> {
    switch (format) {
      case "mp4":
        return await encodeMp4(video, { comment, quality, signal, onFrame });
      case "gif":
        return comment === undefined ? encodeGif(video) : withGifComment(encodeGif(video), toAscii(comment));
      case "png":
        return comment === undefined ? encodeContactSheet(video) : withPngComment(encodeContactSheet(video), comment);
    }
  }
}
