/**
 * MP4 with H.264, written with no program installed.
 *
 * @module
 */
import hme from "h264-mp4-encoder";
import { TilereelError } from "../../errors.ts";
import type { Video } from "../../model/video.ts";
import { commentBox } from "./comment/mp4.ts";
import { frameOf } from "./frames.ts";
import { finishMp4 } from "./mp4_boxes.ts";
import { rgbToYuv420, yuv420Size } from "./yuv.ts";

/** The quality of an MP4, from 1 to 100, where none is asked for: what is lost then is less than chroma at half size loses. */
export const DEFAULT_QUALITY = 80;
/** Frames encoded before others get their turn, so that Ctrl-C and the progress bar don't wait for the whole clip. */
const FRAMES_A_TURN = 4;

/** How a clip is encoded. */
export interface Mp4Options {
  /** From 1 to 100, which is the best. */
  readonly quality?: number | undefined;
  /** Text that the file carries. */
  readonly comment?: string | undefined;
  /** Told how many frames are encoded so far. */
  readonly onFrame?: (done: number) => void;
}

/**
 * Encodes a clip; the same clip gives the same bytes. Width and height must be even.
 *
 * @throws {TilereelError} when the quality is out of range
 */
export async function encodeMp4(video: Video, options: Mp4Options = {}): Promise<Uint8Array<ArrayBuffer>> {
  const { quality = DEFAULT_QUALITY, comment, onFrame } = options;
  const quantization = quantizationOf(quality);
  const encoder = await hme.createH264MP4Encoder();
  // All encoders share one file system.
  const name = `${crypto.randomUUID()}.mp4`;
  try {
    encoder.outputFilename = name;
    encoder.width = video.width;
    encoder.height = video.height;
    // The encoder counts whole frames a second and would cut off the rest.
    encoder.frameRate = Math.max(1, Math.round(video.fps));
    encoder.quantizationParameter = quantization;
    // A key frame a second keeps seeking quick.
    encoder.groupOfPictures = Math.max(1, Math.round(video.fps));
    encoder.initialize();
    const yuv = new Uint8Array(yuv420Size(video.width, video.height));
    for (let i = 0; i < video.frames; i++) {
      rgbToYuv420(frameOf(video, i), video.width, video.height, yuv);
      encoder.addFrameYuv(yuv);
      onFrame?.(i + 1);
      if (i % FRAMES_A_TURN === FRAMES_A_TURN - 1) await new Promise((resolve) => setTimeout(resolve));
    }
    encoder.finalize();
    const mp4 = finishMp4(encoder.FS.readFile(name), comment === undefined ? new Uint8Array() : commentBox(comment));
    encoder.FS.unlink(name);
    return mp4;
  } finally {
    encoder.delete();
  }
}

/** How coarsely the encoder rounds: H.264's quantization parameter, of which it takes 10 (the best) to 51. */
function quantizationOf(quality: number): number {
  if (!(quality >= 1 && quality <= 100)) {
    throw new TilereelError(`quality is ${quality}, and should be a number from 1 to 100, which is the best`);
  }
  return Math.round(51 - 0.41 * quality);
}
