import { TilereelError } from "../../gpu/common/errors.ts";

/** The most pixels of a picture or a frame that is read: 8K video has 33.2 million. */
const MOST_PIXELS = 2 ** 25;

/** The most bytes of a picture's file: photographs in 8K have up to 60 million as PNG. */
export const MOST_PICTURE_BYTES = 2 ** 26;

/**
 * Checks the size of a foreign picture before it is decoded: a file of a few bytes can ask for gigabytes.
 *
 * @throws {TilereelError} if it has too many pixels, or none
 */
export function checkPictureSize(path: string, width: number, height: number): void {
  if (width > 0 && height > 0 && width * height <= MOST_PIXELS) return;
  throw new TilereelError(
    `${path} has ${width}x${height} pixels, but from 1 to ${MOST_PIXELS / 1e6 | 0} million in all were expected; ` +
      `make it smaller`,
  );
}
