import { fileError } from "../../model/files/file_error.ts";
import type { Video } from "../../model/video/video.ts";
import { writeAtomically } from "../../model/files/output.ts";

/** The most bytes that gzip makes of one. */
const MOST_EXPANSION = 1032;

/** Writes a clip's exact samples as RGB, frame by frame, by gzip. Later settings are measured against them. */
export async function writeSamples(path: string, { data }: Video): Promise<void> {
  const stream = new Blob([data as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new CompressionStream("gzip"));
  await writeAtomically(path, (temporary) => Deno.writeFile(temporary, stream));
}

/**
 * Reads what {@linkcode writeSamples} wrote.
 *
 * @returns undefined if the file is damaged or of another size
 * @throws {TilereelError} when it cannot be read
 */
export async function readSamples(path: string, shape: Omit<Video, "data">): Promise<Video | undefined> {
  const packed = await Deno.readFile(path).catch((error) => {
    throw fileError(path, "read", error);
  });
  const { width, height, frames } = shape, size = width * height * frames * 3;
  // So much at most can be in a file of this length.
  if (!Number.isSafeInteger(size) || size < 0 || size > packed.length * MOST_EXPANSION) return undefined;
  const data = new Uint8Array(size);
  let done = 0;
  try {
    for await (const piece of new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))) {
      if (done + piece.length > size) return undefined;
      data.set(piece, done);
      done += piece.length;
    }
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
  return done === size ? { ...shape, data } : undefined;
}
