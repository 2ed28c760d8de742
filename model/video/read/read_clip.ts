import { TilereelError } from "../../../gpu/common/errors.ts";
import { fileAt } from "../../files/disk.ts";
import { readBytes, readPart } from "../../files/store.ts";
import type { Video } from "../video.ts";
import { cover } from "./cover.ts";
import { readWithFfmpeg } from "./ffmpeg.ts";
import { frameNames, readFrameFolder } from "./frame_folder.ts";
import { readGif } from "./gif.ts";
import { openMp4 } from "./mp4.ts";
import { type Pictures, samplingTime } from "./timed_picture.ts";

/** The size and the frame rate that a clip is converted to. */
export interface ClipShape {
  /** In pixels. The picture is scaled to cover it and cropped round its centre. */
  readonly width: number;
  readonly height: number;
  /** How many, from the clip's beginning. */
  readonly frames: number;
  /** Frames a second. Videos are sampled at this rate; a folder's pictures are taken one by one. */
  readonly fps: number;
}

/** A clip that is whole, but has fewer frames than were asked for. */
export class ClipTooShort extends TilereelError {}

/**
 * Reads the beginning of a clip: a folder of PNG or JPEG frames, a GIF, an MP4 with H.264 Baseline, or through ffmpeg,
 * where it is installed, whatever that reads.
 *
 * @throws {ClipTooShort} when it has fewer frames than asked for
 * @throws {TilereelError} when it cannot be read; the message says what to do
 */
export async function readClip(path: string, shape: ClipShape): Promise<Video> {
  const { width, height, frames, fps } = shape;
  const frameSamples = width * height * 3;
  const data = new Uint8Array(frames * frameSamples);
  let done = 0;
  for await (const picture of await openPictures(path, shape)) {
    const first = done;
    while (done < frames && samplingTime(done, fps) < picture.end) done++;
    if (done > first) {
      const frame = cover(picture.rgb(), picture.width, picture.height, width, height);
      for (let i = first; i < done; i++) data.set(frame, i * frameSamples);
    }
    if (done === frames) return { width, height, frames, fps, data };
  }
  throw new ClipTooShort(
    `${path} is too short: it has ${done} frames at ${fps} frames a second, but ${frames} are needed`,
  );
}

async function openPictures(path: string, shape: ClipShape): Promise<Pictures> {
  const stored = fileAt(path);
  if (await stored.kind() === "folder") {
    if ((await frameNames(path)).length > 0) return readFrameFolder(path, shape.fps);
    throw new TilereelError(`${path} holds no PNG or JPEG frames`);
  }
  using file = await stored.open("a clip");
  const start = String.fromCharCode(...await readPart(file, 0, 12));
  if (start.startsWith("GIF8")) return readGif(path, await readBytes(stored));
  if (start.slice(4, 8) !== "ftyp") return readWithFfmpeg(path, shape, "it is neither a GIF nor an MP4");
  const mp4 = await openMp4(path);
  return "pictures" in mp4 ? mp4.pictures : readWithFfmpeg(path, shape, mp4.obstacle);
}
