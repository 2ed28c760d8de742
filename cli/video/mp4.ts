/**
 * MP4 with H.264, written with no program installed.
 *
 * @module
 */
import hme from "h264-mp4-encoder";
import type { Video } from "../../model/video.ts";
import { frameOf } from "./frames.ts";
import { finishMp4 } from "./mp4_boxes.ts";
import { rgbToYuv420, yuv420Size } from "./yuv.ts";

/** How coarsely the encoder rounds, from 10 (best) to 51; here what it loses is less than chroma at half size does. */
const QUANTIZATION = 18;
/** Frames encoded before others get their turn, so that Ctrl-C and the progress bar don't wait for the whole clip. */
const FRAMES_A_TURN = 4;

/**
 * Encodes a clip; the same clip gives the same bytes. Width and height must be even.
 *
 * @param onFrame told how many frames are encoded so far
 */
export async function encodeMp4(video: Video, onFrame?: (done: number) => void): Promise<Uint8Array<ArrayBuffer>> {
  const encoder = await hme.createH264MP4Encoder();
  // All encoders share one file system.
  const name = `${crypto.randomUUID()}.mp4`;
  try {
    encoder.outputFilename = name;
    encoder.width = video.width;
    encoder.height = video.height;
    // The encoder counts whole frames a second and would cut off the rest.
    encoder.frameRate = Math.max(1, Math.round(video.fps));
    encoder.quantizationParameter = QUANTIZATION;
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
    const mp4 = finishMp4(encoder.FS.readFile(name));
    encoder.FS.unlink(name);
    return mp4;
  } finally {
    encoder.delete();
  }
}
