import { TilereelError } from "../../../gpu/common/errors.ts";
import { fileAt } from "../../files/disk.ts";
import { readBytes, readPart } from "../../files/store.ts";
import { MOST_PICTURE_BYTES } from "../../picture/limits.ts";
import type { Picture } from "../../picture/picture.ts";
import { readWithFfmpeg } from "./ffmpeg.ts";
import { readGif } from "./gif.ts";
import { decodeStill } from "./still.ts";
import { decodeWebp, isWebp } from "./webp.ts";
import type { Pictures } from "./timed_picture.ts";

/**
 * Reads a picture: a PNG, a JPEG, the first of a GIF or a WebP, or through ffmpeg, where it is installed, whatever else
 * that reads. JPEG and WebP are turned as their camera was held.
 *
 * @throws {TilereelError} when it cannot be read; the message says what to do
 */
export async function readPicture(path: string): Promise<Picture> {
  const stored = fileAt(path), wanted = "a picture";
  using file = await stored.open(wanted);
  const start = await readPart(file, 0, 12);
  const whole = async () => await readBytes(stored, wanted, MOST_PICTURE_BYTES);
  const still = decodeStill(path, start, whole);
  if (still) return await still;
  if (isWebp(start)) return await decodeWebp(path, await whole());
  const isGif = String.fromCharCode(...start.subarray(0, 4)) === "GIF8";
  const first = await firstOf(
    isGif
      ? readGif(path, await whole())
      : readWithFfmpeg(path, { frames: 1 }, "it is no PNG, JPEG, GIF or WebP", "make it a PNG or a JPEG"),
  );
  if (!first) throw new TilereelError(`${path} has no picture in it; name another file`);
  return first;
}

async function firstOf(pictures: Pictures): Promise<Picture | undefined> {
  for await (const { width, height, rgb } of pictures) return { width, height, rgb: rgb().slice() };
  return undefined;
}
