import type { Video } from "../../model/video/video.ts";

/** A clip as NumPy's file format, version 1.0: uint8 [frames, height, width, 3]. */
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

/** The clip in a file that {@link npyOfFrames} made; `fps` is not in it. */
export function framesOfNpy(file: Uint8Array<ArrayBuffer>, fps: number): Video {
  const length = file[8]! | file[9]! << 8, header = new TextDecoder().decode(file.subarray(10, 10 + length));
  const [frames, height, width] = /\((\d+), (\d+), (\d+), 3\)/.exec(header)!.slice(1).map(Number) as [
    number,
    number,
    number,
  ];
  return { width, height, frames, fps, data: file.subarray(10 + length) };
}
