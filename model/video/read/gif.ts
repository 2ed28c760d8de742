/**
 * Reads animated GIFs.
 *
 * @module
 */
// @ts-types="./omggif.d.ts"
import omggif, { type FrameInfo } from "omggif";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Pictures } from "./timed_picture.ts";

/** Hundredths of a second for which viewers show a frame that asks for less than two. */
const HASTY_DELAY = 10;
const CLEARED = 2, RESTORED = 3;

/**
 * The pictures of a GIF, as a viewer shows them once. What no frame has painted is black.
 *
 * @param path for messages
 * @throws {TilereelError} when it is damaged
 */
export async function* readGif(path: string, bytes: Uint8Array): Pictures & AsyncGenerator {
  const damaged = (error: unknown) =>
    new TilereelError(`${path} is not a whole GIF: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  const open = () => {
    try {
      return new omggif.GifReader(bytes);
    } catch (error) {
      throw damaged(error);
    }
  };
  const gif = open(), { width, height } = gif;
  const canvas = new Uint8Array(width * height * 4);
  let hundredths = 0;
  for (let i = 0; i < gif.numFrames(); i++) {
    const frame = gif.frameInfo(i);
    const before = frame.disposal === RESTORED ? canvas.slice() : undefined;
    try {
      gif.decodeAndBlitFrameRGBA(i, canvas);
    } catch (error) {
      throw damaged(error);
    }
    hundredths += frame.delay < 2 ? HASTY_DELAY : frame.delay;
    yield { end: hundredths / 100, width, height, rgb: () => withoutAlpha(canvas) };
    if (before) canvas.set(before);
    if (frame.disposal === CLEARED) clear(canvas, width, frame);
  }
}

function clear(canvas: Uint8Array, stride: number, { x, y, width, height }: FrameInfo): void {
  for (let row = y; row < y + height; row++) canvas.fill(0, (row * stride + x) * 4, (row * stride + x + width) * 4);
}

/** A canvas is painted fully or not at all, and where it is not it is black. */
function withoutAlpha(rgba: Uint8Array): Uint8Array {
  const rgb = new Uint8Array(rgba.length / 4 * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = rgba[from]!;
    rgb[to + 1] = rgba[from + 1]!;
    rgb[to + 2] = rgba[from + 2]!;
  }
  return rgb;
}
