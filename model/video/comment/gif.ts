/**
 * Comments in GIF files: the comment extension of GIF89a.
 *
 * @module
 */
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { ByteSource } from "../../files/store.ts";
import { tooLarge } from "./too_large.ts";

const EXTENSION = 0x21, COMMENT = 0xfe, IMAGE = 0x2c, TRAILER = 0x3b;
/** Bytes of the header and the description of the screen, where its flags lie, and bytes of an image's description. */
const HEADER = 13, FLAGS = 10, IMAGE_HEADER = 9;
const LARGEST_SUB_BLOCK = 255;

/**
 * The same GIF with a comment at its end. The standard asks for ASCII: JSON can be given as such, with `\u` for all
 * other characters.
 */
export function withGifComment(gif: Uint8Array, ascii: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(ascii);
  const blocks = Math.ceil(text.length / LARGEST_SUB_BLOCK);
  const body = gif.length - 1;
  if (gif[body] !== TRAILER) throw new Error("the GIF writer left out the trailer");
  const out = new Uint8Array(body + 2 + blocks + text.length + 2);
  out.set(gif.subarray(0, body));
  let at = body;
  out[at++] = EXTENSION;
  out[at++] = COMMENT;
  for (let from = 0; from < text.length; from += LARGEST_SUB_BLOCK) {
    const part = text.subarray(from, from + LARGEST_SUB_BLOCK);
    out[at++] = part.length;
    out.set(part, at);
    at += part.length;
  }
  out[at++] = 0;
  out[at++] = TRAILER;
  return out;
}

/**
 * The comments of a GIF.
 *
 * @throws {TilereelError} when the file is damaged, or a comment is larger than `largest` bytes
 */
export async function gifComments(file: ByteSource, largest: number): Promise<string[]> {
  const bytes = new Uint8Array(file.size);
  await file.read(0, bytes);
  const damaged = () => new TilereelError(`${file.path} is not a whole GIF: it is damaged or cut short`);
  let at = FLAGS;
  const byte = () => {
    if (at >= bytes.length) throw damaged();
    return bytes[at++]!;
  };
  /** Passes a table of colours, if the flags say that there is one. */
  const skipColours = (flags: number) => at += flags & 0x80 ? 3 << (flags & 7) + 1 : 0;
  const subBlocks = () => {
    const parts: Uint8Array[] = [];
    for (let size = byte(); size > 0; size = byte()) {
      parts.push(bytes.subarray(at, at + size));
      at += size;
    }
    return parts;
  };
  const flags = byte();
  at = HEADER;
  skipColours(flags);
  const comments: string[] = [];
  for (;;) {
    const kind = byte();
    if (kind === TRAILER) return comments;
    if (kind === IMAGE) {
      at += IMAGE_HEADER - 1;
      skipColours(byte());
      // The size of the codes.
      byte();
      subBlocks();
    } else if (kind === EXTENSION) {
      const label = byte(), parts = subBlocks();
      if (label === COMMENT) comments.push(text(parts));
    } else throw damaged();
  }

  function text(parts: readonly Uint8Array[]): string {
    const size = parts.reduce((sum, part) => sum + part.length, 0);
    if (size > largest) throw tooLarge(file.path, size, largest);
    const decoder = new TextDecoder();
    return parts.map((part) => decoder.decode(part, { stream: true })).join("") + decoder.decode();
  }
}
