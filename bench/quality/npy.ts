/**
 * Frames as NumPy's file format, version 1.0.
 *
 * @module
 */
import type { Video } from "../../model/video/video.ts";

/** A clip as uint8 [frames, height, width, 3]. */
export function npyOfFrames({ frames, height, width, data }: Video): Uint8Array {
  const text = `{'descr': '|u1', 'fortran_order': False, 'shape': (${frames}, ${height}, ${width}, 3), }`;
  // Magic, version and length take ten bytes; the header ends on a multiple of 64 with a line feed.
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const header = new TextEncoder().encode(text.padEnd(length - 1) + "\n");
  const file = new Uint8Array(10 + length + data.length);
  file.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, length & 255, length >> 8]);
  file.set(header, 10);
  file.set(data, 10 + length);
  return file;
}
