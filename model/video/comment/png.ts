import { TilereelError } from "../../../gpu/common/errors.ts";
import { type ByteSource, readPart } from "../../files/store.ts";
import { crc32 } from "../crc32.ts";
import { concatenate, u32 } from "../mp4_boxes.ts";
import { checkRecordSize } from "../record_text.ts";

const SIGNATURE = 8;
/** Bytes of a chunk's length and type before its data, and of the check after it. */
const HEADER = 8, CHECK = 4;
/** `IHDR` comes first and is as long as this. */
const FIRST_CHUNK = HEADER + 13 + CHECK;
/** After the keyword: the end of the keyword, not compressed, and no language or translated keyword. */
const PREFIX = "Comment\0\0\0\0\0";

/**
 * The same PNG with a comment, an `iTXt` chunk (UTF-8) with the standard's keyword `Comment`. It comes before the
 * picture: programs may show it before they have read that.
 */
export function withPngComment(png: Uint8Array, text: string): Uint8Array<ArrayBuffer> {
  const data = new TextEncoder().encode(`iTXt${PREFIX}${text}`);
  const at = SIGNATURE + FIRST_CHUNK;
  return concatenate([png.subarray(0, at), u32(data.length - 4), data, u32(crc32(data)), png.subarray(at)]);
}

/**
 * The comments of a PNG in UTF-8, not compressed.
 *
 * @throws {TilereelError} when the file is damaged, or a comment is larger than a record may be
 */
export async function pngComments(file: ByteSource): Promise<string[]> {
  const damaged = () => new TilereelError(`${file.path} is not a whole PNG: it is damaged or cut short`);
  const comments: string[] = [];
  for (let at = SIGNATURE;;) {
    if (at + HEADER > file.size) throw damaged();
    const header = await readPart(file, at, HEADER);
    const size = new DataView(header.buffer).getUint32(0);
    const type = String.fromCharCode(...header.subarray(4));
    if (at + HEADER + size + CHECK > file.size) throw damaged();
    if (type === "IEND") return comments;
    if (type === "iTXt") {
      const start = await readPart(file, at + HEADER, Math.min(size, PREFIX.length));
      if (new TextDecoder().decode(start) === PREFIX) {
        checkRecordSize(file.path, size - PREFIX.length);
        const chunk = await readPart(file, at + 4, 4 + size + CHECK);
        const checked = chunk.subarray(0, 4 + size);
        if (new DataView(chunk.buffer).getUint32(4 + size) !== crc32(checked)) throw damaged();
        comments.push(new TextDecoder().decode(checked.subarray(4 + PREFIX.length)));
      }
    }
    at += HEADER + size + CHECK;
  }
}
