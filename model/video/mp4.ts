import hme from "h264-mp4-encoder";
import type { Video } from "./video.ts";
import { coloursFor } from "./colours.ts";
import { frameRate } from "./frame_rate.ts";
import { frameOf } from "./frames.ts";
import { describeStream } from "./h264_sps.ts";
import { findBox } from "./mp4_boxes.ts";
import { type H264Track, muxMp4 } from "./mp4_mux.ts";
import { rgbToYuv420, yuv420Size } from "./yuv.ts";

/** The default quality of an MP4. Its loss is a fraction of the loss by chroma at half size. */
export const DEFAULT_QUALITY = 80;
/** Frames encoded before others get their turn, so that Ctrl-C and the progress bar don't wait for the whole clip. */
const FRAMES_A_TURN = 4;

/** The way to the tables of samples in an MP4, and bytes before the boxes in those that have any. */
const SAMPLE_TABLE = ["moov", "trak", "mdia", "minf", "stbl"];
const ENTRIES = { stsd: 8, avc1: 78 };
/** `nal_unit_type` of slices of frames that can be decoded by themselves. */
const KEY_SLICE = 5;

/** How a clip is encoded. */
export interface Mp4Options {
  /** From 1 to 100, which is the best. */
  readonly quality?: number | undefined;
  /** Text that the file carries. */
  readonly comment?: string | undefined;
  /** Called with the number of frames that are encoded so far. */
  readonly onFrame?: (done: number) => void;
  /** Ends the work before the next frame. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A clip as MP4 with H.264, without an installed program; equal clips give equal bytes. Width and height must be even.
 *
 * @throws the signal's reason, if it is aborted
 */
export async function encodeMp4(video: Video, options: Mp4Options = {}): Promise<Uint8Array<ArrayBuffer>> {
  const { quality = DEFAULT_QUALITY, comment, onFrame, signal } = options;
  const quantization = quantizationOf(quality);
  const { width, height } = video;
  const encoder = await hme.createH264MP4Encoder();
  // All encoders share one file system.
  const name = `${crypto.randomUUID()}.mp4`;
  let begun = false, finalized = false;
  try {
    signal?.throwIfAborted();
    encoder.outputFilename = name;
    encoder.width = width;
    encoder.height = height;
    encoder.quantizationParameter = quantization;
    // A key frame a second keeps seeking quick.
    encoder.groupOfPictures = Math.max(1, Math.round(video.fps));
    encoder.initialize();
    begun = true;
    const colours = coloursFor(width, height);
    const yuv = new Uint8Array(yuv420Size(width, height));
    for (let i = 0; i < video.frames; i++) {
      rgbToYuv420(frameOf(video, i), width, height, colours.yuv, yuv);
      encoder.addFrameYuv(yuv);
      onFrame?.(i + 1);
      if (i % FRAMES_A_TURN === FRAMES_A_TURN - 1) await new Promise((resolve) => setTimeout(resolve));
      signal?.throwIfAborted();
    }
    encoder.finalize();
    finalized = true;
    const encoded = takeApart(encoder.FS.readFile(name));
    const rate = frameRate(video.fps);
    const bits = encoded.samples.reduce((sum, sample) => sum + sample.length, 0) * 8;
    const bitrate = bits * rate.timescale / rate.frameTicks / video.frames;
    const sps = describeStream(encoded.sps, { colours: colours.tags, rate, bitrate });
    return muxMp4({ ...encoded, width, height, rate, colours: colours.tags, sps }, comment);
  } finally {
    // One that is deleted before it is finalized ends the program.
    if (begun && !finalized) encoder.finalize();
    encoder.delete();
    if (begun) encoder.FS.unlink(name);
  }
}

/** How coarsely the encoder rounds: H.264's quantization parameter, of which it takes 10 (the best) to 51. */
function quantizationOf(quality: number): number {
  return Math.round(51 - 0.41 * quality);
}

/** The stream in the encoder's own MP4, whose descriptions are poor. */
function takeApart(mp4: Uint8Array): Pick<H264Track, "sps" | "pps" | "samples" | "keyFrames"> {
  const media = findBox(mp4, ["mdat"]);
  const sizes = findBox(mp4, [...SAMPLE_TABLE, "stsz"]);
  const view = new DataView(sizes.buffer, sizes.byteOffset, sizes.length);
  // All samples' size where it is the same, as that of one is; else zero.
  const same = view.getUint32(4);
  const samples: Uint8Array[] = [];
  for (let i = 0, at = 0; i < view.getUint32(8); i++) {
    const size = same || view.getUint32(12 + i * 4);
    samples.push(media.subarray(at, at + size));
    at += size;
  }
  // After the length of a NAL unit comes its type.
  const keyFrames = [...samples.keys()].filter((i) => (samples[i]![4]! & 31) === KEY_SLICE);
  const configuration = findBox(mp4, [...SAMPLE_TABLE, "stsd", "avc1", "avcC"], ENTRIES);
  const spsSize = configuration[6]! << 8 | configuration[7]!;
  const sps = configuration.slice(8, 8 + spsSize);
  // The number of picture parameter sets, and the length of the one.
  const pps = configuration.slice(8 + spsSize + 3);
  return { sps, pps, samples, keyFrames };
}
