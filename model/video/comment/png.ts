/**
 * Comments in PNG files: `iTXt` chunks, which hold UTF-8, with the keyword `Comment` of the standard's list.
 *
 * @module
 */
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { ByteSource } from "../../files/store.ts";
import { tooLarge } from "./too_large.ts";

const SIGNATURE = 8;
/** Bytes of a chunk's length and type before its data, and of the check after it. */
const HEADER = 8, CHECK = 4;
/** `IHDR` comes first and is as long as this. */
const FIRST_CHUNK = HEADER + 13 + CHECK;
/** After the keyword: the end of the keyword, not compressed, and no language or translated keyword. */
const PREFIX = "Comment\0\0\0\0\0";

/** The same PNG with a comment, before the picture: programs may show it before they have read that. */
export function withPngComment(png: Uint8Array, text: string): Uint8Array<ArrayBuffer> {
  const data = new TextEncoder().encode(`iTXt${PREFIX}${text}`);
  const chunk = new Uint8Array(4 + data.length + CHECK);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, data.length - 4);
  chunk.set(data, 4);
  view.setUint32(4 + data.length, crc32(data));
  const out = new Uint8Array(png.length + chunk.length);
  const at = SIGNATURE + FIRST_CHUNK;
  out.set(png.subarray(0, at));
  out.set(chunk, at);
  out.set(png.subarray(at), at + chunk.length);
  return out;
}

/** The check of PNG (ISO 3309). */
function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc >>> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/**
 * The comments of a PNG in UTF-8, not compressed.
 *
 * @throws {TilereelError} when the file is damaged, or a comment is larger than `largest` bytes
 */
export async function pngComments(file: ByteSource, largest: number): Promise<string[]> {
  const damaged = () => new TilereelError(`${file.path} is not a whole PNG: it is damaged or cut short`);
  const comments: string[] = [];
  const header = new Uint8Array(HEADER);
  for (let at = SIGNATURE;;) {
    if (at + HEADER > file.size) throw damaged();
    await file.read(at, header);
    const size = new DataView(header.buffer).getUint32(0);
    const type = String.fromCharCode(...header.subarray(4));
    if (at + HEADER + size + CHECK > file.size) throw damaged();
    if (type === "IEND") return comments;
    if (type === "iTXt") {
      const start = new Uint8Array(Math.min(size, PREFIX.length));
      await file.read(at + HEADER, start);
      if (new TextDecoder().decode(start) === PREFIX) {
        if (size > largest + PREFIX.length) throw tooLarge(file.path, size, largest);
        const chunk = new Uint8Array(4 + size + CHECK);
        await file.read(at + 4, chunk);
        const checked = chunk.subarray(0, 4 + size);
        if (new DataView(chunk.buffer).getUint32(4 + size) !== crc32(checked)) throw damaged();
        comments.push(new TextDecoder().decode(checked.subarray(4 + PREFIX.length)));
      }
    }
    at += HEADER + size + CHECK;
  }
}
