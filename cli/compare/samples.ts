import { fileError } from "../../model/files/file_error.ts";
import type { Video } from "../../model/video/video.ts";
import { writeAtomically } from "../../model/files/output.ts";

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
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = await new Response(stream).bytes().catch(() => undefined);
  const { width, height, frames } = shape;
  return data?.length === width * height * frames * 3 ? { ...shape, data } : undefined;
}
