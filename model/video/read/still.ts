import { convertIndexedToRgb, decode as decodePng, type DecodedPng } from "fast-png";
import jpeg from "jpeg-js";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Picture } from "../../picture/picture.ts";
import { orientationOf, turned } from "./orientation.ts";

/** Whether a file of that name is read by {@link readStill}. */
export function isStill(name: string): boolean {
  return /\.(png|jpe?g)$/i.test(name);
}

/**
 * Reads a PNG or JPEG. Parts that are transparent are black; 16 bits a channel are rounded to 8; a JPEG is turned as its
 * camera was held.
 *
 * @throws {TilereelError} when it cannot be read or is damaged
 */
export async function readStill(path: string): Promise<Picture> {
  const bytes = await Deno.readFile(path).catch((error) => {
    throw new TilereelError(`${path} cannot be read: ${error.message}`, { cause: error });
  });
  return decodeWhole(path, bytes, /\.png$/i.test(path));
}

/**
 * As {@link readStill}, of a file whose first bytes are known; undefined if it is neither.
 *
 * @param start its first eight bytes
 */
export function decodeStill(
  path: string,
  start: Uint8Array,
  read: () => Promise<Uint8Array>,
): Promise<Picture> | undefined {
  const isPng = start[0] === 0x89 && start[1] === 0x50, isJpeg = start[0] === 0xff && start[1] === 0xd8;
  return isPng || isJpeg ? read().then((bytes) => decodeWhole(path, bytes, isPng)) : undefined;
}

function decodeWhole(path: string, bytes: Uint8Array, isPng: boolean): Picture {
  try {
    return isPng ? fromPng(decodePng(bytes, { checkCrc: true })) : fromJpeg(bytes);
  } catch (error) {
    throw new TilereelError(`${path} is not a whole ${isPng ? "PNG" : "JPEG"}: ${reason(error)}`, { cause: error });
  }
}

function fromJpeg(bytes: Uint8Array): Picture {
  const { width, height, data, exifBuffer } = jpeg.decode(bytes, {
    ...{ useTArray: true, formatAsRGBA: false, tolerantDecoding: false },
  }) as jpeg.UintArrRet & { readonly exifBuffer?: ArrayBuffer | Uint8Array };
  return turned({ width, height, rgb: data }, orientationOf(exifBuffer && new Uint8Array(exifBuffer)));
}

function fromPng(png: DecodedPng): Picture {
  const { width, height, depth } = png;
  if (png.palette || depth < 8) {
    // Greys of few bits are packed as indices are.
    const levels = 2 ** depth;
    const palette = png.palette ?? Array.from({ length: levels }, (_, i) => Array(3).fill(i * 255 / (levels - 1)));
    return { width, height, rgb: opaque(convertIndexedToRgb({ ...png, palette }), palette[0]!.length) };
  }
  const samples = depth === 16 ? Uint8Array.from(png.data, (sample) => Math.round(sample / 257)) : png.data;
  return { width, height, rgb: opaque(samples, png.channels) };
}

/** RGB of 1 (grey), 2 (grey, alpha), 3 or 4 (with alpha) samples a pixel, over black. */
export function opaque(samples: ArrayLike<number>, channels: number): Uint8Array {
  const rgb = new Uint8Array(samples.length / channels * 3);
  const hasAlpha = channels % 2 === 0, step = channels > 2 ? 1 : 0;
  for (let from = 0, to = 0; to < rgb.length; from += channels, to += 3) {
    const alpha = hasAlpha ? samples[from + channels - 1]! / 255 : 1;
    for (let c = 0; c < 3; c++) rgb[to + c] = Math.round(samples[from + c * step]! * alpha);
  }
  return rgb;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
