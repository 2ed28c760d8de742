import { quoted, TilereelError } from "../../../gpu/common/errors.ts";
import { isNotFound } from "../../files/file_error.ts";
import { concatenate } from "../mp4_boxes.ts";
import { type Pictures, samplingTime } from "./timed_picture.ts";

/** A picture's header as ffmpeg writes it: the magic number, width and height, and the largest sample. */
const HEADER = /^P6\n(\d+) (\d+)\n255\n/;
/**
 * The formats that ffmpeg may read. Not among them are playlists (HLS, DASH, concat), which name other files, and
 * those that are scripts or devices.
 */
const FORMATS = [
  ...["mov", "matroska", "avi", "asf", "flv", "mpeg", "mpegts", "mpegvideo", "ogg", "mxf", "nut", "ivf", "dv", "rm"],
  ...["gif", "apng", "h264", "hevc", "m4v", "av1", "obu", "vc1", "yuv4mpegpipe", "mjpeg", "rawvideo"],
  ...["webp_pipe", "png_pipe", "jpeg_pipe", "bmp_pipe", "tiff_pipe", "jpegxl_pipe", "j2k_pipe", "qoi_pipe"],
  ...["ppm_pipe", "pgm_pipe", "pam_pipe", "tga_pipe", "exr_pipe", "hdr_pipe", "dds_pipe", "psd_pipe", "image2"],
];
/** Bytes that hold a header with room to spare. */
const HEADER_BYTES = 32;
/** What ffmpeg puts before a message: the part that says it, and where it lies in memory. */
const ADDRESSED = /^\[.* @ 0x[0-9a-f]+\] /;

/**
 * The first `frames` frames of a clip in another format, by the program ffmpeg, if it is installed. With `fps`, there are
 * so many a second, picked as {@link samplingTime} says; without, they are the file's own.
 */
export async function* readWithFfmpeg(
  path: string,
  { frames, fps }: { frames: number; fps?: number },
  obstacle: string,
  instead = "make the clip a GIF, an MP4 with H.264 Baseline, or a folder of PNG or JPEG frames",
): Pictures & AsyncGenerator {
  // Ended, if need be, and waited for when the loop over the pictures is left.
  await using ffmpeg = start(path, frames, fps, obstacle, instead);
  const errors = new Response(ffmpeg.stderr).text();
  const output = new ByteReader(ffmpeg.stdout);
  try {
    for (let i = 0; i < frames; i++) {
      const header = HEADER.exec(new TextDecoder().decode(await output.peek(HEADER_BYTES)));
      if (!header) break;
      output.skip(header[0].length);
      const width = Number(header[1]), height = Number(header[2]);
      const rgb = await output.take(width * height * 3);
      yield { end: (i + 1) / (fps ?? 1), width, height, rgb: () => rgb };
    }
    if ((await ffmpeg.status).success) return;
    const [message] = (await errors).trim().split("\n") as [string];
    throw new TilereelError(
      `${path} cannot be read: ${obstacle}, and ffmpeg says ${quoted(message.replace(ADDRESSED, ""), 200)}`,
    );
  } finally {
    await output.cancel();
    await errors.catch(() => {});
  }
}

function start(
  path: string,
  frames: number,
  fps: number | undefined,
  obstacle: string,
  instead: string,
): Deno.ChildProcess {
  // Each frame of the clip goes to the first slot that begins at or after it, and the last that comes there stays. In
  // microseconds: the clip's own unit of time may be as long as a frame.
  const pick = fps === undefined
    ? []
    : ["-vf", `settb=1/1000000,setpts=PTS-STARTPTS-${samplingTime(0, fps)}/TB,fps=${fps}:round=up`];
  const trusted = ["-protocol_whitelist", "file", "-format_whitelist", FORMATS.join(",")];
  const input = ["-nostdin", "-v", "error", ...trusted, "-i", `file:${path}`, "-map", "0:V:0", ...pick];
  const output = ["-frames:v", `${frames}`, "-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"];
  try {
    return new Deno.Command("ffmpeg", {
      args: [...input, ...output],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (!isNotFound(error)) throw error;
    throw new TilereelError(
      `${path} cannot be read: ${obstacle}, and the program ffmpeg, which reads other files, is not installed; ` +
        `install it, or ${instead}`,
      { cause: error },
    );
  }
}

/** Bytes of a stream, in pieces of one's own size. */
class ByteReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.getReader();
  }

  /** The next `count` bytes, or as many as there are, which stay where they are. */
  async peek(count: number): Promise<Uint8Array> {
    const parts = [this.#rest];
    let length = this.#rest.length;
    while (length < count) {
      const { value } = await this.#reader.read();
      if (!value) break;
      parts.push(value);
      length += value.length;
    }
    if (parts.length > 1) this.#rest = concatenate(parts);
    return this.#rest.subarray(0, count);
  }

  skip(count: number): void {
    this.#rest = this.#rest.subarray(count);
  }

  /** The next `count` bytes. */
  async take(count: number): Promise<Uint8Array> {
    const bytes = await this.peek(count);
    if (bytes.length < count) throw new Error("ffmpeg ended in the middle of a picture");
    this.skip(count);
    return bytes;
  }

  async cancel(): Promise<void> {
    await this.#reader.cancel();
  }
}
