import { TilereelError } from "../../../gpu/common/errors.ts";
import { type ByteSource, readPart } from "../../files/store.ts";
import { gifBlocks } from "../gif_blocks.ts";
import { concatenate } from "../mp4_boxes.ts";
import { checkRecordSize } from "../record_text.ts";

const EXTENSION = 0x21, COMMENT = 0xfe, TRAILER = 0x3b;
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
  const bytes = await readPart(file, 0, file.size), comments: string[] = [];
  try {
    for (const block of gifBlocks(bytes)) {
      if (block.kind !== "extension" || block.label !== COMMENT) continue;
      checkRecordSize(file.path, block.data.reduce((sum, part) => sum + part.length, 0));
      comments.push(new TextDecoder().decode(concatenate(block.data)));
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new TilereelError(`${file.path} is not a whole GIF: it is damaged or cut short`, { cause: error });
  }
  return comments;
}
