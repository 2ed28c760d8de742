// @ts-types="./omggif.d.ts"
import omggif, { type FrameInfo } from "omggif";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { opaque } from "./still.ts";
import type { Pictures } from "./timed_picture.ts";

/** Hundredths of a second for which viewers show a frame that asks for less than two. */
const HASTY_DELAY = 10;
const CLEARED = 2, RESTORED = 3;

/**
 * The pictures of an animated GIF, as a viewer shows them once. What no frame has painted is black.
 *
 * @param path for messages
 * @throws {TilereelError} when it is damaged
 */
export async function* readGif(path: string, bytes: Uint8Array): Pictures & AsyncGenerator {
  const whole = <T>(read: () => T): T => {
    try {
      return read();
    } catch (error) {
      // The library throws errors, and texts.
      const reason = error instanceof Error ? error.message : error;
      throw new TilereelError(`${path} is not a whole GIF: ${reason}`, { cause: error });
    }
  };
  const gif = whole(() => new omggif.GifReader(bytes)), { width, height } = gif;
  const canvas = new Uint8Array(width * height * 4);
  let hundredths = 0;
  for (let i = 0; i < gif.numFrames(); i++) {
    const frame = gif.frameInfo(i);
    const before = frame.disposal === RESTORED ? canvas.slice() : undefined;
    whole(() => gif.decodeAndBlitFrameRGBA(i, canvas));
    hundredths += frame.delay < 2 ? HASTY_DELAY : frame.delay;
    yield { end: hundredths / 100, width, height, rgb: () => opaque(canvas, 4) };
    if (before) canvas.set(before);
    if (frame.disposal === CLEARED) clear(canvas, width, frame);
  }
}

function clear(canvas: Uint8Array, stride: number, { x, y, width, height }: FrameInfo): void {
  for (let row = y; row < y + height; row++) canvas.fill(0, (row * stride + x) * 4, (row * stride + x + width) * 4);
}
