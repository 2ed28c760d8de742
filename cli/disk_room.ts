import { statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { TilereelError } from "../gpu/common/errors.ts";
import { formatBytes } from "../gpu/common/format_bytes.ts";
import { exists } from "../model/files/file_error.ts";

/**
 * Checks that the disk has room for what is to be written.
 *
 * @param place a file or a folder, which need not exist
 * @param elsewhere how another place is named, for the message
 * @throws {TilereelError} if it has too little
 */
export async function checkRoom(place: string, bytes: number, elsewhere: string): Promise<void> {
  let folder = resolve(place);
  while (!await exists(folder)) folder = dirname(folder);
  const { bavail, bsize } = await statfs(folder), room = bavail * bsize;
  if (bytes <= room) return;
  throw new TilereelError(
    `the disk of ${place} has ${formatBytes(room)} left, and ${formatBytes(bytes)} are missing; ` +
      `make room, or name a folder on another disk${elsewhere}`,
  );
}
