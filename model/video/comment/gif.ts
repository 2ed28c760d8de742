import { TilereelError } from "../../../gpu/common/errors.ts";
import { type ByteSource, readPart } from "../../files/store.ts";
import { concatenate } from "../mp4_boxes.ts";
import { checkRecordSize } from "../record_text.ts";

const EXTENSION = 0x21, COMMENT = 0xfe, IMAGE = 0x2c, TRAILER = 0x3b;
/** Bytes of the header and the description of the screen, where its flags lie, and bytes of an image's description. */
const HEADER = 13, FLAGS = 10, IMAGE_HEADER = 9;
const LARGEST_SUB_BLOCK = 255;

/**
 * The same GIF with a comment at its end: the comment extension of GIF89a. The standard asks for ASCII: JSON can be
 * given as such, with `\u` for all other characters.
 */
export function withGifComment(gif: Uint8Array, ascii: string): Uint8Array<ArrayBuffer> {
  if (gif.at(-1) !== TRAILER) throw new Error("the GIF writer left out the trailer");
  const text = new TextEncoder().encode(ascii), parts = [gif.subarray(0, -1), Uint8Array.of(EXTENSION, COMMENT)];
  for (let from = 0; from < text.length; from += LARGEST_SUB_BLOCK) {
    const part = text.subarray(from, from + LARGEST_SUB_BLOCK);
    parts.push(Uint8Array.of(part.length), part);
  }
  return concatenate([...parts, Uint8Array.of(0, TRAILER)]);
}

/**
 * The comments of a GIF.
 *
 * @throws {TilereelError} when the file is damaged, or a comment is larger than a record may be
 */
export async function gifComments(file: ByteSource): Promise<string[]> {
  const bytes = await readPart(file, 0, file.size);
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
      if (label !== COMMENT) continue;
      const comment = concatenate(parts);
      checkRecordSize(file.path, comment.length);
      comments.push(new TextDecoder().decode(comment));
    } else throw damaged();
  }
}
