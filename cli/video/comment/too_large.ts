/**
 * Comments that are too large to be read.
 *
 * @module
 */
import { TilereelError } from "../../../errors.ts";

/** The error to throw for a comment of `size` bytes where `largest` are read. */
export function tooLarge(path: string, size: number, largest: number): TilereelError {
  return new TilereelError(
    `${path} has a comment of ${size} bytes, and a record of how it was made has up to ${largest}: ` +
      `name a clip that tilereel wrote`,
  );
}
