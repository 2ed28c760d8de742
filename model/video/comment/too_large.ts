/**
 * Comments that are too large to be read.
 *
 * @module
 */
import { TilereelError } from "../../../gpu/common/errors.ts";
import { formatBytes } from "../../../gpu/common/format_bytes.ts";

/** The error to throw for a comment of `size` bytes where `largest` are read. */
export function tooLarge(path: string, size: number, largest: number): TilereelError {
  return new TilereelError(
    `${path} has a comment of ${formatBytes(size)}, and a record of how it was made has up to ${
      formatBytes(largest)
    }: ` +
      `name a clip that tilereel wrote`,
  );
}
